"""The catalogue's tables, migrations and transactions, on real databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import CatalogueUnusable, open_catalogue, reading, writing
from origin.catalogue.migrate import MIGRATIONS, downgrade, upgrade
from origin.catalogue.schema import metadata, uploads, videos
from tests.support.deployments import ROOT


def video_row(video_id: str = "AAAAAAAAAAA", **changed: Any) -> dict[str, Any]:
    row = {
        "id": video_id, "title": "a", "tags": [], "filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 1,
        "state": "uploading", "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    return row | changed


@asynccontextmanager
async def empty_catalogue(file: Path) -> AsyncIterator[Connection]:
    engine = create_engine(f"sqlite:///{file}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def definitions(connection: Connection) -> dict[str, list[str]]:
    """SQLite's own text of every table and index by clause; white space, quotes and the order of constraints apart."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"))
    return {name: sorted(" ".join(sql.replace('"', "").split()).removesuffix(" )").split(", CONSTRAINT")) for name, sql in rows}


def newest_revision() -> str:
    """One, since migrations form one line."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    (head,) = ScriptDirectory.from_config(config).get_heads()
    return head


async def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    async with empty_catalogue(tmp_path / "migrated") as migrated, empty_catalogue(tmp_path / "made") as made:
        upgrade(migrated)
        metadata.create_all(made)
        assert definitions(migrated) == definitions(made)
        assert compare_metadata(MigrationContext.configure(migrated, opts={"compare_type": True}), metadata) == []


async def test_downgrade_to_base_leaves_no_table_and_upgrade_brings_them_back(tmp_path: Path) -> None:
    async with empty_catalogue(tmp_path / "catalogue") as connection:
        upgrade(connection)
        before = definitions(connection)
        downgrade(connection, "base")
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        upgrade(connection)
        assert definitions(connection) == before


async def test_the_catalogue_runs_in_wal_with_foreign_keys(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, reading(catalogue) as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 2


async def test_what_was_written_is_there_after_opening_again(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as connection:
        await connection.execute(insert(videos).values(**video_row(tags=["cat", "ü"])))
    async with open_catalogue(deployment) as catalogue, reading(catalogue) as connection:
        assert (await connection.execute(select(videos.c.tags))).scalar_one() == ["cat", "ü"]


async def _write_a_video_then_fail(catalogue: AsyncEngine) -> None:
    async with writing(catalogue) as connection:
        await connection.execute(insert(videos).values(**video_row()))
        await connection.execute(
            insert(uploads).values(id="u", video_id="no such id", part_size_bytes=1, parts=1, created_at=1.0)
        )


async def test_a_failed_transaction_leaves_nothing(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue:
        with pytest.raises(IntegrityError):
            await _write_a_video_then_fail(catalogue)
        async with reading(catalogue) as connection:
            assert (await connection.execute(select(videos.c.id))).all() == []


async def test_an_unknown_state_is_refused_by_the_database(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as connection:
        with pytest.raises(IntegrityError):
            await connection.execute(insert(videos).values(**video_row(state="lost")))


async def _count_up(catalogue: AsyncEngine, times: int) -> None:
    for _ in range(times):
        async with writing(catalogue) as connection:
            size = (await connection.execute(select(videos.c.size_bytes))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(videos.update().values(size_bytes=size + 1))


async def test_writers_that_read_first_never_lose_an_update_nor_fail_as_busy(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as first, open_catalogue(deployment) as second:
        async with writing(first) as connection:
            await connection.execute(insert(videos).values(**video_row(size_bytes=0)))
        await asyncio.gather(*(_count_up(engine, 5) for engine in (first, second) for _ in range(2)))
        async with reading(first) as connection:
            assert (await connection.execute(select(videos.c.size_bytes))).scalar_one() == 20


async def test_a_reader_does_not_wait_for_a_writer(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as writer:
        await writer.execute(insert(videos).values(**video_row()))
        async with asyncio.timeout(5), reading(catalogue) as reader:
            assert (await reader.execute(select(videos.c.id))).all() == []


def test_processes_that_start_at_once_all_find_a_migrated_catalogue(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from headwater.settings.load import load_deployment\n"
        "from origin.catalogue.engine import open_catalogue\n"
        "async def main():\n"
        "    d = load_deployment(Path(sys.argv[1])).model_copy(update={'data': Path(sys.argv[2])})\n"
        "    async with open_catalogue(d) as e, e.begin() as c:\n"
        "        from sqlalchemy import text\n"
        "        print((await c.execute(text('SELECT version_num FROM alembic_version'))).scalar_one())\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", program, str(ROOT / "configs/lab.yaml"), str(tmp_path)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in started] == [newest_revision()] * 3


async def test_a_data_folder_that_is_a_file_is_a_clear_error(deployment: Deployment) -> None:
    deployment.data.parent.mkdir(parents=True, exist_ok=True)
    deployment.data.write_text("in the way")
    with pytest.raises(CatalogueUnusable, match="cannot be opened"):
        async with open_catalogue(deployment):
            pass


async def test_a_file_that_is_no_database_is_a_clear_error(deployment: Deployment) -> None:
    deployment.data.mkdir(parents=True)
    (deployment.data / "catalogue.sqlite3").write_bytes(b"not a database at all " * 100)
    with pytest.raises(CatalogueUnusable, match="cannot be opened"):
        async with open_catalogue(deployment):
            pass
