import subprocess
import sys
import warnings

import pytest

from mura_skorch.utils.library_warnings import ignore_warnings_of


def warn_as(module):
    """Return how often a module is heard."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        ignore_warnings_of("other.library")
        namespace = {"__name__": module, "warnings": warnings}
        exec("warnings.warn('a damaged field')", namespace)
    return len(heard)


def test_a_module_and_those_in_it_are_ignored_and_no_others():
    assert warn_as("other.library") == warn_as("other.library.part") == 0
    assert warn_as("other.library_2") == warn_as("other") == warn_as(__name__) == 1


def test_filter_is_set_once():
    with warnings.catch_warnings():
        ignore_warnings_of("other.library")
        filters = list(warnings.filters)
        ignore_warnings_of("other.library")
        assert list(warnings.filters) == filters


@pytest.mark.slow
def test_import_of_the_package_leaves_the_filters_alone():
    code = (
        "import warnings, skorch, torchvision, pandas, PIL.Image, filelock, tqdm, joblib; "
        "before = list(warnings.filters); "
        "import mura_skorch.data, mura_skorch.dicom, mura_skorch.utils.identity; "
        "new = [found for found in warnings.filters if found not in before]; "
        "assert not any('PIL' in str(f) or 'pydicom' in str(f) for f in new), new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
