"""What all servers have in common that a job starts for itself."""

from __future__ import annotations

from pydantic import Field, field_validator

from modpo_hpc.section import Section


class Serving(Section):
    """A server on each GPU of a job, for as long as a shard runs."""

    command: tuple[str, ...] = Field(..., description="command line; {host} and {port} are filled in at every start")
    health: str = Field("/health", description="path that answers 200 when the server is ready")
    ready_minutes: float = Field(20, gt=0, description="time to load the model")
    gpus: int = Field(1, ge=1, description="GPUs of one server")
    restarts: int = Field(3, ge=0, description="restarts of a server in one shard before the shard fails")

    @field_validator("command")
    @classmethod
    def _has_port(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command or not any("{port}" in part for part in command):
            raise ValueError("the command line must pass {port} to the server")
        return command
