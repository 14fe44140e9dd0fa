"""The scheduler's pipeline from settings, and from what a site's packages provide.

Entry points ``novakube.scheduler.filters`` and ``novakube.scheduler.weighers``: each names a
factory (``FilterFactory``, ``WeigherFactory`` in ``core/scheduling/pipeline.py``); it is used
when the settings name it, and may replace one of ours.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from novakube_kit.errors import InvalidSpec
from novakube_operator.core.scheduling.pipeline import Pipeline
from novakube_operator.core.scheduling.registry import UnknownName, pipeline
from novakube_operator.settings import SchedulerSettings

FILTERS_GROUP = "novakube.scheduler.filters"
WEIGHERS_GROUP = "novakube.scheduler.weighers"


def load_pipeline(settings: SchedulerSettings) -> Pipeline:
    """The pipeline that the settings describe.

    Raises:
        InvalidSpec: an unknown name, or a site's package that cannot be imported.
    """
    weighed = tuple(settings.weighers)
    try:
        return pipeline(
            settings.options,
            settings.filters,
            weighed,
            _provided(FILTERS_GROUP, set(settings.filters)),
            _provided(WEIGHERS_GROUP, {name for name, _ in weighed}),
        )
    except UnknownName as error:
        raise InvalidSpec(str(error), reason="InvalidConfiguration") from error


def _provided(group: str, wanted: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        if point.name not in wanted:
            continue
        try:
            found[point.name] = point.load()
        except Exception as error:
            message = f"entry point {group} {point.name} = {point.value}: {error}"
            raise InvalidSpec(message, reason="InvalidConfiguration") from error
    return found
