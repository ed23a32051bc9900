import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))


@pytest.fixture
def engines_folder():
    return pathlib.Path(__file__).parent.parent
