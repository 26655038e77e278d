from lisa_mm.visualization.style import series_style


def test_series_can_be_told_apart():
    styles = [tuple(series_style(i).values()) for i in range(18)]
    assert len(set(styles)) == 18
    assert [style[0] == 'black' for style in styles] == [True] + [False] * 17
