"""The panel to browse the committed figures, each with its caption and what follows from it."""

import ipywidgets as widgets
from IPython.display import Markdown, display

import my_utils as mu
from common.curves import show
from report.drawings import draw_overview, draw_result
from report.panels.parts import column, draw_into, picture, to_html
from report.sentences import caption
from report.verdict import figure_verdict
from study.study import Study


def show_figures(folder):
    """Display a panel to browse the figures; where nobody is looking, all of them as one strip.

    Args:
        folder: with the table of records; a relative one starts at the project's root.
    """
    study = Study.read(folder)
    results = study.figures
    if not results:
        display(Markdown(f"There are no figures in `{folder}` yet: run `python reproduce.py`."))
    elif not mu.somebody_is_looking():
        lines = ". ".join(caption(result) for result in results.values())
        overview = draw_overview(list(results.values()))
        show(overview, alt=f"Small plots of the training curves, one a figure. {lines}")
    else:
        names = [(f"Figure {result.number}", name) for name, result in results.items()]
        chosen = widgets.ToggleButtons(options=names)
        chosen.style.button_width = "6em"
        drawing, sentence = picture("760px"), widgets.HTML()

        def update(_change=None):
            result = results[chosen.value]
            draw_into(drawing, f"Training curves. {caption(result)}", draw_result, result)
            sentence.value = to_html(f"{caption(result)}\n\n{figure_verdict(chosen.value, study).data}")

        update()
        chosen.observe(update, "value")
        display(column(chosen, drawing, sentence))
