"""The process's settings for training are restored afterwards."""

import sys

import pytest
import torch

from wpg.controllers.cpu import tuned


@pytest.mark.parametrize("before", [False, True])
def test_denormal_numbers_are_as_they_were(before):
    torch.set_flush_denormal(before)
    try:
        with tuned(1):
            assert sys.float_info.min / 2 == 0
        assert (sys.float_info.min / 2 == 0) is before
    finally:
        torch.set_flush_denormal(False)
