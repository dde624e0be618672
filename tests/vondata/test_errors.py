"""Every error class of the packages is a VonError, so that the command line and the studio handle only one class."""

import importlib
import inspect
import pickle
import pkgutil

import click
import pytest
import voncli

import vondata
import vonmodel
from vondata.dataset.manifest import ManifestMissingError
from vondata.errors import VonError
from vondata.io.fs import DeliveryError
from vondata.types import Rejected

GPU_ONLY = ("_gpu",)


def modules():
    for package in (vondata, vonmodel, voncli):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith((*GPU_ONLY, "__main__")):
                yield importlib.import_module(found.name)


def error_classes():
    found = {}
    for module in modules():
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__ == module.__name__:
                found[kind] = f"{kind.__module__}.{kind.__qualname__}"
    return found


def test_all_errors_have_one_base():
    strangers = [
        name for kind, name in error_classes().items() if not issubclass(kind, (VonError, click.ClickException))
    ]
    assert strangers == []


def test_no_two_errors_share_a_name():
    names = [kind.__name__ for kind in error_classes()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", [kind for kind in error_classes() if issubclass(kind, VonError)])
def test_errors_say_how_a_command_and_a_request_end(kind):
    assert kind.exit_code in (1, 2)
    assert 400 <= kind.http_status <= 599


def test_the_hint_follows_the_message():
    assert str(VonError("the file is cut", hint="fetch it again")) == "the file is cut; fetch it again"
    assert str(VonError("the file is cut")) == "the file is cut"


def test_rejections_travel_between_processes():
    again = pickle.loads(pickle.dumps(Rejected("file_corrupt", "84 faces are announced, 54 are there")))
    assert (again.reason, again.detail) == ("file_corrupt", "84 faces are announced, 54 are there")


def test_errors_travel_between_processes(tmp_path) -> None:
    for error in (
        DeliveryError(28, "s3://a takes no file"),
        ManifestMissingError(tmp_path, "chair", "shapes"),
        VonError("it is broken", hint="mend it"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert pickle.loads(pickle.dumps(DeliveryError(28, "full"))).errno == 28
