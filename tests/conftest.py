"""Fixtures that every test may use."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from headwater.settings.deployment import Deployment
from tests.support.ceph import Ceph, running_ceph
from tests.support.clips import flash_clip
from tests.support.deployments import lab_deployment
from tests.support.lab import Lab, running_lab
from tests.support.postgres import Postgres, on_postgres, running_postgres

# How long an example takes says how busy the machine is; a test that hangs meets pytest's own timeout.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `both_catalogues` runs twice: on SQLite, and on a PostgreSQL that one session starts once."""
    if metafunc.definition.get_closest_marker("both_catalogues") and "catalogue_kind" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))]
        metafunc.parametrize("catalogue_kind", kinds, indirect=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups that pytest-xdist does not keep together would start a lab, a Ceph and a PostgreSQL at every worker, unnoticed."""
    if not session.config.getoption("loadgroup", False):
        return
    if lost := [item for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]:
        raise pytest.UsageError(f"pytest-xdist ignores xdist_group, of {lost[0].nodeid} say: it does not fit this pytest")


@pytest.fixture
def catalogue_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def deployment(tmp_path: Path, catalogue_kind: str, request: pytest.FixtureRequest) -> Deployment:
    """The lab's deployment on free ports, its data in a temporary folder, its catalogue empty."""
    deployment = lab_deployment(tmp_path)
    if catalogue_kind == "postgres":
        return on_postgres(deployment, request.getfixturevalue("postgres").database())
    return deployment


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL. Tests that want it belong to the xdist group `postgres`."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A real S3 server. Tests that want it belong to the xdist group `ceph`, so that a session starts one."""
    with running_ceph() as ceph:
        yield ceph


# One lab for all tests that want a whole one: they belong to the xdist group `lab`, run in the session's loop
# (`pytest.mark.asyncio(loop_scope="session")`), and leave every node running.
@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A whole lab of real processes."""
    async with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def flash_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of 640x360 at 24 frames a second, with a flash and a tone at the same moment."""
    return flash_clip(tmp_path_factory.mktemp("clips") / "flash.mp4", seconds=10)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def video_id(lab: Lab, flash_file: Path) -> str:
    """The flash clip, uploaded by the real command, all rungs ready."""
    video_id = await lab.upload(flash_file)
    await lab.whole_video(video_id)
    return video_id


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cold_video(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another video, of many segments that nobody has watched; tests take theirs one by one."""
    file = flash_clip(tmp_path_factory.mktemp("clips") / "cold.mp4", seconds=24)
    video_id = await lab.upload(file)
    await lab.whole_video(video_id)
    return video_id


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def unwatched_video(lab: Lab, flash_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The flash clip once more, for what must be the first to watch it; other tests let the load test watch every video."""
    copy = shutil.copy(flash_file, tmp_path_factory.mktemp("clips") / "unwatched.mp4")
    video_id = await lab.upload(copy)
    await lab.whole_video(video_id)
    return video_id


@pytest.fixture(autouse=True)
async def no_task_is_left_behind() -> AsyncIterator[None]:
    """A leaked task fails the test that leaked it."""
    yield
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()}
    assert not left, f"tasks left behind: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With HEADWATER_REQUIRE_ALL=1 a test that would be skipped, for a program that is missing say, fails instead.

    The real media files beside a clone are the exception: they are no part of the project.
    """
    report = yield
    required = os.environ.get("HEADWATER_REQUIRE_ALL") == "1" and not hasattr(report, "wasxfail")
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    about_media = "shared" in reason or "empty parameter set" in reason  # the latter: a test for each real file, and no file
    if report.skipped and required and not about_media:
        report.outcome = "failed"
        report.longrepr = f"{reason}; HEADWATER_REQUIRE_ALL=1 allows no skip"
    return report
