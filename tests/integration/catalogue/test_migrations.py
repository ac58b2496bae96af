"""Every migration goes up and down, on SQLite and on PostgreSQL, and what creators have uploaded stays."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.pool import NullPool

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import catalogue_engine, catalogue_url
from origin.catalogue.migrate import MIGRATIONS, downgrade, upgrade
from origin.catalogue.schema import metadata, videos

pytestmark = pytest.mark.both_catalogues

FIRST = "0001"
# Columns of the first revision: later ones have their defaults.
VIDEO = {
    "id": "AAAAAAAAAAA", "title": "kept", "description": "", "tags": ["a"], "filename": "a.mp4", "content_type": "video/mp4",
    "size_bytes": 2**40, "state": "uploading", "created_at": 1.5, "updated_at": 1.5,
}  # fmt: skip


def revisions() -> list[str]:
    """Oldest first; fails when the migrations do not form one line."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert len(scripts.get_heads()) == 1
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def walk(connection: Connection) -> None:
    line = revisions()
    upgrade(connection, line[0])
    connection.execute(insert(videos).values(**VIDEO))
    for revision in line[1:]:
        upgrade(connection, revision)
    assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    for revision in reversed(line[:-1]):
        downgrade(connection, revision)
        assert MigrationContext.configure(connection).get_current_revision() == revision
        assert connection.execute(select(videos.c.title)).scalars().all() == ["kept"]
    for revision in line[1:]:
        upgrade(connection, revision)
    assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    assert connection.execute(select(videos.c.title, videos.c.size_bytes)).all() == [("kept", 2**40)]
    downgrade(connection, "base")
    assert set(inspect(connection).get_table_names()) <= {"alembic_version"}


async def test_each_step_goes_up_and_down_and_up_again_with_a_video_in_it(deployment: Deployment) -> None:
    url = catalogue_url(deployment)
    deployment.data.mkdir(parents=True, exist_ok=True)
    engine = catalogue_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(walk)
    finally:
        await engine.dispose()
