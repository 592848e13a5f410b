"""`lake manifest`: show, check, renew, keygen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lake.display import plain, progress, show
from lake.errors import InputError
from lake.invocation import Invocation, JsonFlag, as_day

manifest = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What each closed day held, in files chained by hash: show it, or prove a copy without the lake."
    "\n\nExample: lake manifest check archive/2026-11-20.json",
)


@manifest.command("show")
def manifest_show(
    context: typer.Context,
    day: Annotated[
        str | None, typer.Argument(help="UTC day, YYYY-MM-DD; without one, all that there are.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the manifest of a day says, or which manifests there are.

    Example: lake manifest show 2026-11-20
    """
    import msgspec

    from lake.manifests.chain import Chain, manifest_path
    from lake.manifests.form import read_manifest
    from lake.manifests.signing import signature_path

    this: Invocation = context.obj
    folder = this.root().manifests
    if day is None:
        chain = Chain.of(folder)
        rows = [
            {
                "day": held[0].manifest.day,
                "revision": held[0].manifest.revision,
                "partitions": len(held[0].manifest.partitions),
                "rows": sum(entry.rows for entry in held[0].manifest.partitions),
                "gaps": held[0].manifest.gaps.rows,
                "signed": signature_path(held[0].path).exists(),
                "made at": held[0].manifest.made_at,
                "sha256": held[0].sha256,
            }
            for held in chain.by_day.values()
        ]
        show(rows, title="manifests", as_json=as_json)
        return
    path = manifest_path(folder, as_day(day))
    if not path.exists():
        raise InputError(f"there is no manifest of {day}; `lake compact` makes those of closed days")
    stored = read_manifest(path)
    if as_json:
        content = msgspec.to_builtins(stored.manifest)
        typer.echo(json.dumps({"sha256": stored.sha256, **content}, indent=1))
        return
    for title, rows in _sections(stored.manifest).items():
        show(rows, title=title)
    typer.echo(f"SHA-256 of {path.name}: {stored.sha256}")


def _sections(said: Any) -> dict[str, list[dict[str, Any]]]:
    partitions = [
        {
            "table": entry.table,
            "partition": entry.partition,
            "files": len(entry.files),
            "rows": entry.rows,
            "duplicates dropped": entry.dropped,
            "bytes": sum(file.size for file in entry.files),
            "content hash": entry.content_hash,
        }
        for entry in said.partitions
    ]
    streams = [
        {
            "stream": one.stream,
            "records": f"{one.first_offset}-{one.end_offset}",
            "from": one.start_ts,
            "to": one.end_ts,
            "rows": sum(one.rows.values()),
            "records lost": one.records_lost,
            "rejected": one.rejected,
            "repeated": one.repeated,
        }
        for one in said.streams
    ]
    head = [
        {
            "revision": said.revision,
            "made at": said.made_at,
            "lake": said.lake,
            "the day before": said.previous.day if said.previous else None,
            "supersedes": "; ".join(said.supersedes.reasons) if said.supersedes else None,
        }
    ]
    return {
        f"manifest of {said.day}": head,
        "partitions": partitions,
        "streams": streams,
        "gaps": said.gap_rows,
    }


@manifest.command("check")
def manifest_check(
    file: Annotated[Path, typer.Argument(help="The manifest.")],
    files: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the files; by default where the manifest lies, or the lake around it."
        ),
    ] = None,
    subset: Annotated[bool, typer.Option("--subset", help="Only some of the files were delivered.")] = False,
    key: Annotated[
        Path | None, typer.Option(help="Public key that the manifest must be signed with.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove a copy, an archive or a delivered part by its manifest, without the lake; exit code 1 where it differs.

    Example: lake manifest check archive/2026-11-20.json --key lake.key.pub
    """
    from lake.errors import CorruptionError
    from lake.manifests.delivered import check_delivered
    from lake.manifests.signing import load_public

    public = load_public(key) if key else None
    found = check_delivered(file, files, subset=subset, public=public)
    if as_json:
        content = {**dataclasses.asdict(found), "problems": found.problems}
        typer.echo(json.dumps(plain(content), indent=1))
    else:
        show(found.as_rows(), title=f"checked by {file.name}")
    if found.problems:
        for problem in found.problems:
            typer.echo(f"lake: {problem}", err=True)
        raise CorruptionError(f"{file}: {len(found.problems)} problems")


@manifest.command("renew")
def manifest_renew(
    context: typer.Context,
    day: Annotated[str, typer.Argument(help="UTC day, YYYY-MM-DD.")],
    why: Annotated[str, typer.Option(help="What happened; it is kept in the new manifest.")],
    as_json: JsonFlag = False,
) -> None:
    """Accept that a day is no longer what its manifest says, or that its manifest is lost, and make it anew.

    Example: lake manifest renew 2026-11-20 --why "disk failed, restored from the backup of November 25"
    """
    import datetime

    from lake.errors import CorruptionError
    from lake.manifests.make import make_manifests

    this: Invocation = context.obj
    chosen: datetime.date = as_day(day)
    report = make_manifests(this.root(), this.settings("manifest"), renew={chosen: why}, progress=progress)
    rows = [{"day": made, "because": "; ".join(reasons)} for made, reasons in report.made.items()]
    show(rows, title="manifests", as_json=as_json)
    if report.problems:
        raise CorruptionError("; ".join(report.problems))


@manifest.command("keygen")
def manifest_keygen(
    file: Annotated[
        Path, typer.Argument(help="Where to write the private key; the public one goes to FILE.pub.")
    ],
) -> None:
    """Make a key to sign manifests with; name it in the settings: [manifest] key_file.

    Example: lake manifest keygen ~/lake.key
    """
    from lake.manifests.signing import make_key

    public = make_key(file)
    typer.echo(f"{file} signs manifests: keep it secret, and name it in the settings ([manifest] key_file)")
    typer.echo(f"{public} checks them: keep a copy where whoever can change the lake cannot change it")
