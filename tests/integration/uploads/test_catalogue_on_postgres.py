"""The same catalogue on a real PostgreSQL: migrations, constraints, uploads, lists."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.exc import IntegrityError

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import CatalogueUnusable, open_catalogue, reading, writing
from origin.catalogue.migrate import downgrade, upgrade
from origin.catalogue.schema import jobs, metadata, videos
from tests.support.deployments import lab_deployment
from tests.support.origin import running_api
from tests.support.postgres import Postgres, on_postgres

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def deployment(postgres: Postgres, tmp_path: Path) -> Deployment:
    """The lab on PostgreSQL."""
    return on_postgres(lab_deployment(tmp_path), postgres.database())


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


async def test_migrations_go_up_down_and_up_again_and_make_the_schema(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as connection:
        assert await connection.run_sync(differences) == []
        await connection.run_sync(lambda sync: downgrade(sync, "base"))
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert set(names) <= {"alembic_version"}
        await connection.run_sync(upgrade)
        assert await connection.run_sync(differences) == []


async def test_several_that_open_it_at_once_all_find_it_migrated(deployment: Deployment) -> None:
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as connection:
        await connection.run_sync(lambda sync: downgrade(sync, "base"))

    async def count() -> int:
        async with open_catalogue(deployment) as catalogue, reading(catalogue) as connection:
            return len((await connection.execute(select(videos.c.id))).all())

    assert await asyncio.gather(*(count() for _ in range(4))) == [0, 0, 0, 0]


async def test_a_state_that_is_none_is_refused_by_the_database(deployment: Deployment) -> None:
    said = {"id": "AAAAAAAAAAA", "title": "a", "tags": [], "filename": "a", "content_type": "a/b", "size_bytes": 2**40}
    async with open_catalogue(deployment) as catalogue, writing(catalogue) as connection:
        with pytest.raises(IntegrityError):
            await connection.execute(insert(videos).values(**said, state="lost", created_at=1.0, updated_at=1.0))


async def test_uploads_and_lists_work_on_postgres(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        begun = await asyncio.gather(*(api.creator.begin(5, key="together") for _ in range(6)))
        assert len({answer.body["video_id"] for answer in begun}) == 1
        first = await api.creator.upload(b"first", title="Grüße", tags=["ü", "b"])
        second = await api.creator.upload(b"second")
        assert {(await api.creator.complete(first)).status for _ in range(2)} == {202}
        page = (await api.creator.ask("GET", "/api/v1/videos?limit=2")).body
        assert [video["video_id"] for video in page["videos"]] == [second, first]
        assert page["videos"][1]["tags"] == ["ü", "b"]
        rest = (await api.creator.ask("GET", "/api/v1/videos", params={"cursor": page["next_cursor"]})).body
        assert [video["video_id"] for video in rest["videos"]] == [begun[0].body["video_id"]]
        async with reading(api.catalogue) as connection:
            assert set((await connection.execute(select(jobs.c.video_id))).scalars()) == {first, second}


async def test_a_server_that_is_not_there_is_a_clear_error(deployment: Deployment) -> None:
    away = on_postgres(deployment, "postgresql://someone:secret@127.0.0.1:1/headwater")
    with pytest.raises(CatalogueUnusable, match="cannot be opened") as told:
        async with open_catalogue(away):
            pass
    assert "secret" not in str(told.value)


async def test_a_database_that_is_not_there_is_a_clear_error(deployment: Deployment, postgres: Postgres) -> None:
    with pytest.raises(CatalogueUnusable, match="nowhere"):
        async with open_catalogue(on_postgres(deployment, postgres.url.replace("@/postgres", "@/nowhere"))):
            pass
