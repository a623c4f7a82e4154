"""What the file of a checkpoint holds, checked by fields."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.runs.records.kinds import checked_rows

_Count = Annotated[int, Field(strict=True, ge=0)]
_Text = Annotated[str, Field(strict=True)]
_Link = tuple[_Text, _Text, _Count, _Count, list[tuple[_Text, _Count, _Count]]]


class Content(BaseModel):
    """The fields of a `Checkpoint` as a file has them; whether states fit the parties is seen when they are loaded."""

    rounds: Annotated[int, Field(strict=True, ge=1)]
    fingerprint: _Text
    parties: dict[_Text, dict[Any, Any]]
    memory: dict[Any, Any]
    rows: list[dict[_Text, Any]]
    traffic: list[_Link | tuple[_Text, _Text, _Count, _Count]]
    attempts: _Count
    excluded: list[_Text]
    cohort: list[_Text]
    settings: dict[_Text, Any] = {}
    base: dict[_Text, _Text] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        checked_rows(self.rows)
        numbers = [row["round"] for row in self.rows]
        if numbers != list(range(1, self.rounds + 1)):
            raise ValueError(f"it is of {self.rounds} rounds, and has the metrics of the rounds {numbers}")
        return self

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Checkpoint`."""
        content = {name: getattr(self, name) for name in type(self).model_fields}
        links = [
            LinkTraffic(
                source=source,
                destination=destination,
                num_bytes=size,
                num_messages=count,
                kinds=tuple(KindTraffic(*kind) for kinds in more for kind in kinds),
            )
            for source, destination, size, count, *more in self.traffic  # older files have no kinds
        ]
        return content | {"traffic": links}


def checked_content(content: Any) -> dict[str, Any]:
    """Return the fields of a `Checkpoint` from the content of a file. Raises ``ValueError`` with the first mistake."""
    try:
        return Content.model_validate(content).fields()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {message}" if where else message) from error
