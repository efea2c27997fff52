def pytest_collectstart(collector):
    """Of a checked output the text is compared. A figure holds its numbers to the last bit, which is the machine's."""
    if collector.path.suffix == ".ipynb":
        collector.skip_compare += ("application/vnd.plotly.v1+json",)
