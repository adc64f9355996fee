"""Places that a user names: local ones pass, and others are told from them before they become paths."""

import pytest
from absl import flags

from introspection.errors import InputError
from introspection.runtime import places
from introspection.runtime.command import check_places
from introspection.runtime.config import cache_dir
from introspection.runtime.places import check_schemes, is_url, local_path, url_parts

LOCAL = (
    "runs/x",
    "/tmp/x:kl:0@100",
    "base+adapters",
    "a:b",
    "s3/x",
    "C:\\x",
    "@models.txt",
    "initial=runs/x",
    "",
)


def values_of(**given: object) -> flags.FlagValues:
    values = flags.FlagValues()
    for name, value in given.items():
        define = flags.DEFINE_list if isinstance(value, list) else flags.DEFINE_string
        define(name.replace("_", "-"), value, "", flag_values=values)
    values.mark_as_parsed()
    return values


@pytest.mark.parametrize("place", LOCAL)
def test_local_places_pass(place):
    assert not is_url(place)
    check_places(values_of(workdir=place, model=place, models=[place], controls=[place], data=place, to=None))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"workdir": "ftp://a/b"},
            r"^--workdir: 'ftp://a/b': nothing reads ftp://; give gs://BUCKET/FOLDER or s3:",
        ),
        ({"workdir": "file:///a"}, r"^--workdir: .*nothing reads file://"),
        ({"models": ["runs/x", "foo://y:kl"]}, r"^--models: 'foo://y:kl': nothing reads foo://"),
        ({"model": "base+foo://y"}, r"^--model: .*nothing reads foo://"),
        ({"controls": ["shuffled", "shuffled=foo://y"]}, r"^--controls: .*nothing reads foo://"),
        ({"beside": ["foo://y"]}, r"^--beside: .*nothing reads foo://"),
        ({"judge_model": "foo://y"}, r"^--judge-model: .*nothing reads foo://"),
        ({"data": "s3://b/x.jsonl"}, r"^--data: 's3://b/x.jsonl' is no local path"),
        ({"to": "s3://b/x"}, r"^--to: .*is no local path"),
    ],
)
def test_what_can_t_be_reached_is_one_line_that_names_the_flag(given, line):
    with pytest.raises(InputError, match=line):
        check_places(values_of(**given))


def test_a_driver_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(places.DRIVERS, "gs", "no_such_driver")
    with pytest.raises(
        InputError, match=r"^--workdir: gs:// needs the package no_such_driver, .* pip install -r"
    ):
        check_schemes("--workdir", "gs://bucket/x")


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/."]
)
def test_a_url_names_a_folder_in_a_bucket(url):
    assert url_parts("--workdir", "s3://b/runs/x/") == ("s3", "b/runs/x")
    with pytest.raises(InputError, match=r"^--workdir: .* is no folder in a bucket; give s3://BUCKET/FOLDER"):
        url_parts("--workdir", url)


def test_the_cache_and_a_config_s_files_are_local(monkeypatch):
    monkeypatch.setenv("INTROSPECTION_CACHE", "s3://b/cache")
    with pytest.raises(InputError, match=r"^INTROSPECTION_CACHE: 's3://b/cache' is no local path"):
        cache_dir()
    with pytest.raises(InputError, match=r"^config.cache_dir: .*is no local path"):
        cache_dir("gs://b/cache")
    with pytest.raises(InputError, match=r"^data: .*is no local path"):
        local_path("data", "s3://b/x")
