"""The kernel's lists of CPUs; a damaged file's, too."""

import pytest

from corral.system.cpu_list import format_cpus, parse_cpu_list, parse_cpu_mask


def test_lists_and_masks() -> None:
    assert parse_cpu_list("0-3,8\n") == parse_cpu_mask("00000000,0000010f\n") == (0, 1, 2, 3, 8)
    assert parse_cpu_list("") == parse_cpu_mask("") == ()
    assert format_cpus([8, 0, 1, 2, 3]) == "0-3,8"


@pytest.mark.parametrize("text", ["0-4294967295", "99999999999", "a=b", "0-65536", "1-x"])
def test_a_list_that_no_kernel_writes_takes_no_memory(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@pytest.mark.parametrize("text", ["f" * 20_000, "xyz"])
def test_a_mask_that_no_kernel_writes_takes_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_mask(text)
