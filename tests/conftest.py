import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def log(request):
    """Messages of MMEngine's current logger."""

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    messages = []
    logger = MMLogger.get_instance(request.node.name)
    handler = Handler()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
