"""The panels of `notebooks/explore.ipynb`: train the network, look into it, see where it errs, browse the figures.

Each panel is a few widgets around one picture that is exchanged in place. Where nobody can press a button, as under
papermill and nbconvert, a panel is a static picture instead. The widgets used are those that ipywidgets 7.7.1, which
Colab has, and 8 share.
"""

from report.panels.browse import show_figures
from report.panels.inside import show_network
from report.panels.mistakes import show_mistakes
from report.panels.training import Training

__all__ = ["Training", "show_figures", "show_mistakes", "show_network"]
