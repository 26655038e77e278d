import numpy as np

from lisa_mm.visualization.panels import POSITIVE, SIGNED, Panel, draw_panels


def test_colours_and_marks(tmp_path):
    signed, positive = np.array([[-2.0, 1.0]]), np.array([[0.0, 3.0]])
    image = np.zeros((4, 8, 3), np.uint8)
    rows = [
        [Panel('a', signed), Panel('b', positive), Panel('c', positive, signed=True)],
        [Panel('d', image, mark=(3, 2)), Panel('e', np.zeros((2, 2)), extent=(8, 4))],
    ]
    figure = draw_panels(rows, 'title')
    figure.savefig(tmp_path / 'panels.png')
    axes = {axes.get_title(): axes for axes in figure.axes if axes.images}
    assert set(axes) == {'a (±2)', 'b (0 to 3)', 'c (±3)', 'd', 'e (0 to 1)'}
    axes = {title[0]: panel for title, panel in axes.items()}
    maps = {title: panel.images[0] for title, panel in axes.items()}
    assert maps['a'].get_cmap().name == SIGNED and maps['a'].get_clim() == (-2, 2)
    assert maps['b'].get_cmap().name == POSITIVE and maps['b'].get_clim() == (0, 3)
    assert maps['c'].get_cmap().name == SIGNED and maps['c'].get_clim() == (-3, 3)
    assert maps['e'].get_extent() == [0, 8, 4, 0]
    assert [line.get_xydata().tolist() for line in axes['d'].lines] == [[[3, 2]]] * 2
    assert len(axes) == 5 and len(figure.axes) == 6
