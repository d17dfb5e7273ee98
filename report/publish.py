"""Show a study: its drawings, its verdicts, and the report as a PDF and a web page, in a folder of figures."""

import numpy as np

from common import ROOT
from common.curves import to_svg
from common.files import write_at_once
from common.formatting import changes
from report import drawings
from report.typst_exporter import TypstPDFExporter
from report.web import web_page
from study import cluster, signals
from study.plan import BatchError
from study.reported import report_steps
from study.stopping import call_stoppably
from study.study import Study


def publish(folder, overrides, own_folder=None):
    """Draw everything that the records in a folder allow, and typeset the report there as report.pdf and report.html.

    Args:
        folder: of figures, with the table of records.
        overrides: parameters in which the runs differ from the claims' settings: a trial, which gets no verdicts.
        own_folder: with the table of the user's own runs: they are marked, and all goes there instead.

    Returns:
        The `Study` of the folder.

    Raises:
        BatchError: the report couldn't be made.
    """
    if folder == ROOT / "figures" and not own_folder:
        signals.write(folder)
    print("Drawing the figures …", flush=True)
    study = Study.read(folder, overrides, own_folder)
    for name, drawing in draw_all(study).items():
        write_at_once((own_folder or folder) / f"{name}.svg", to_svg(drawing))
    if not overrides and not own_folder:
        study.write_verdicts(folder)
    print("Writing the report, some half a minute …", flush=True)
    typeset(folder, overrides, own_folder)
    return study


def draw_all(study):
    """Draw everything that the records allow: a dict from the name of a file to its `matplotlib.figure.Figure`."""
    figures = {"classes": drawings.draw_classes()}
    figures |= {name: drawings.draw_result(result) for name, result in study.figures.items()}
    if study.figures:
        figures["overview"] = drawings.draw_overview(list(study.figures.values()))
    if not study.overrides:
        if report_steps(study):
            figures["steps"] = drawings.draw_steps(study)
        figures["claims"] = drawings.draw_numbers(study)
    figures["signals"] = drawings.draw_signals(signals.read())
    if not np.isnan(drawings.grid_means(study)[-1]).all():
        figures["grid"] = drawings.draw_grid(study)
    if study.effects[0].sample.num_seeds:
        figures["effects"] = drawings.draw_effects(study)
    if candidates := study.measured_candidates:
        figures["candidates"] = drawings.draw_candidates(candidates)
    share, _ = study.share_recognised
    if share is not None:
        figures["images"] = drawings.draw_images(share)
    return figures


def typeset(folder, overrides, own_folder=None):
    """Execute the report's notebook on a study's records, and typeset it as report.pdf and report.html.

    The arguments are those of `publish`.
    """
    try:
        parameters = {"figures_folder": str(folder), "overrides": overrides}
        if own_folder:
            parameters["own_folder"] = str(own_folder)
        notebook = call_stoppably(cluster.execute_notebook, ROOT, "report", parameters)
        if overrides:
            notebook.metadata.subtitle = f"Trial: {changes(overrides)}"  # on a telephone the text begins far below
        pdf, _ = TypstPDFExporter().from_notebook_node(notebook)
        page = web_page(notebook)
    except Exception as error:
        raise BatchError(
            f"the report couldn't be made ({cluster.reason(error)}): run again, all records are kept"
        ) from error
    write_at_once((own_folder or folder) / "report.pdf", pdf)
    write_at_once((own_folder or folder) / "report.html", page)
