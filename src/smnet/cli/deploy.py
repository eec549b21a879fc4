"""``smnet export``, ``convert`` and ``push``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from smnet.cli.options import Checkpoint, FirstLabel, Format, Labels, Overwrite, Root, Target
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.data.annotations.source import ClipSource


def export(
    checkpoint: Checkpoint,
    to: Annotated[
        str,
        typer.Option(
            help="onnx, openvino, torch (a torch.export program), or web (a page that runs the"
            " network in the browser)."
        ),
    ] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 (not with torch).")] = "fp32",
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Or the folder of web. Default: beside the checkpoint."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Data set to calibrate int8 with, and to compare scores on."
        ),
    ] = None,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators.")] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Export one step of a causal model, for smnet live: its state goes in"
            " and out with every frame.",
        ),
    ] = False,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="Add the feature maps as a second output, for smnet explain and smnet embed.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Export a checkpoint for deployment.

    The exported network takes uint8 frames and returns scores. The file holds the class names and
    the sampling, so `smnet predict model.onnx clip.mp4` works without PyTorch. Scores and speed are
    compared with the checkpoint; the comparison is printed and written to FILE.json.

    fp16 halves the file. It is faster on a GPU, and with openvino on CPUs that compute in 16 bits;
    onnx on a CPU computes in fp32 and spends time on the conversion. int8 is the fastest on CPUs,
    above all with onnx; sensitive layers stay in fp32. A loss above 0.5 points of top-1 is refused.

    web writes a folder of static files for any web server. The page recognises videos and the
    camera in the browser alone and sends nothing. A causal checkpoint goes frame by frame.

    \b
    Examples:
      smnet export runs/mine
      smnet export runs/mine --precision int8 --calibration clips/
      smnet export runs/ssv2 --precision int8 --calibration labels/ --root videos/
      smnet export runs/mine --to openvino --precision fp16 --calibration clips/
      smnet export runs/mine --to torch --out model.pt2
      smnet export runs/causal --stream
      smnet export runs/mine --features
      smnet export runs/mine --to web --out site/
    """
    from smnet.console import output
    from smnet.data.annotations.source import ClipSource
    from smnet.export.export import export as run
    from smnet.export.parity import parity_table

    given = {
        "--format": format,
        "--root": root,
        "--labels": labels,
        "--first-label": first_label,
        "--target": target,
    }
    if calibration is None and any(given.values()):
        names = ", ".join(name for name, value in given.items() if value)
        raise UserError(f"{names}: these describe the data set of --calibration DATA; add it")
    source = (
        ClipSource(calibration, format, root, labels, first_label, target=target)
        if calibration
        else None
    )
    if to == "web":
        _export_web(checkpoint, out, precision, source, opset, stream, features, overwrite)
        return
    made = run(
        checkpoint,
        out,
        to=to,
        precision=precision,
        calibration=source,
        opset=opset,
        stream=stream,
        features=features,
        overwrite=overwrite,
        say=partial(typer.echo, err=True),
    )
    output().print(parity_table(made.parity, "PyTorch fp32", f"{to} {precision}"))
    if made.quantised is not None and made.quantised.kept:
        typer.echo(f"kept in fp32: {', '.join(made.quantised.kept)}")
    typer.echo(f"written: {made.path} ({made.bytes / 1e6:.1f} MB)")
    typer.echo(f"report: {made.report}")


def _export_web(
    checkpoint: str,
    out: str | None,
    precision: str,
    calibration: ClipSource | None,
    opset: int | None,
    stream: bool,
    features: bool,
    overwrite: bool,
) -> None:
    from smnet.console import output
    from smnet.export.parity import parity_table
    from smnet.web.site import write_site

    if precision != "fp32":
        raise UserError(f"--precision {precision}: --to web has fp32, the fastest in a browser")
    if stream or features:
        raise UserError(
            f"{'--stream' if stream else '--features'}: leave it out; --to web exports a causal"
            " checkpoint frame by frame, and no features"
        )
    site = write_site(
        checkpoint,
        out,
        calibration=calibration,
        opset=opset,
        overwrite=overwrite,
        say=partial(typer.echo, err=True),
    )
    output().print(parity_table(site.exported.parity, "PyTorch fp32", "web fp32"))
    typer.echo(f"written: {site.folder} ({site.bytes / 1e6:.1f} MB)")
    typer.echo(f"to look at it: python -m http.server -b 127.0.0.1 -d {site.folder}")


def convert(
    file: Annotated[
        str, typer.Argument(help="A published checkpoint: .pth, .pth.tar or .safetensors.")
    ],
    out: Annotated[str, typer.Option(metavar="OUT.safetensors", help="The file to write.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="tsm, tsn, tdn, tam, action, tea, mmaction2-tsm, mmaction2-tsn (also for its Slow"
            " and I3D), mmaction2-tanet, torchvision or timm. Default: recognised from the tensors'"
            " names.",
        ),
    ] = None,
    segments: Annotated[
        int | None,
        typer.Option(help="Segments per clip in its training, where the file does not say."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="File with the class names.")
    ] = None,
    class_order: Annotated[
        str | None,
        typer.Option(help="Order of the classifier's outputs: file (as in NAMES), or sorted."),
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="Sampling rule. Default: that of the published results.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="Mean of its normalisation, of values in [0, 1]; needs --std. Default: that of"
            " timm's config.json beside the file, or ImageNet's.",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Deviation of its normalisation.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a published checkpoint into one of smnet.

    Nothing is written unless every tensor has its place. No code in the file is executed.

    \b
    Examples:
      smnet convert TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth \\
        --classes something-something-v2-labels.json --out tsm-ssv2.safetensors
      smnet convert best.pth.tar --from tdn --segments 8 --out tdn.safetensors
    """
    from smnet.checkpoints.convert import convert as run
    from smnet.checkpoints.file import save_checkpoint
    from smnet.files import check_outputs, check_suffix

    check_suffix(out, (".safetensors",), "a checkpoint")
    check_outputs({"--out": out}, (file, classes), overwrite)
    conversion = run(
        file,
        layout,
        segments=segments,
        classes=classes,
        class_order=class_order,
        sampling=sampling,
        mean=_numbers(mean),
        std=_numbers(std),
    )
    save_checkpoint(out, conversion.checkpoint)
    for note in (*conversion.notes, f"written: {out}"):
        typer.echo(note)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"{text!r}: write three numbers, such as 0.5,0.5,0.5") from None


def push(
    checkpoint: Checkpoint,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Export it too, to onnx/model.onnx in the repository.")
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Upload the page of smnet export --to web instead, as a static space."
        ),
    ] = False,
) -> None:
    """Upload a checkpoint to the Hugging Face hub, with a model card.

    Every verb that takes a checkpoint then also takes hf://OWNER/NAME. A static space with --web is
    a page that anybody can open; it runs the network in the browser.

    \b
    Examples:
      smnet push runs/mine me/my-actions
      smnet predict hf://me/my-actions clip.mp4
      smnet push runs/mine me/my-actions --onnx
      smnet push runs/mine me/try-my-actions --web
    """
    from smnet.checkpoints.card import ONNX, model_card, space_card
    from smnet.checkpoints.header import checkpoint_file, read_header
    from smnet.checkpoints.hub import push as run
    from smnet.checkpoints.hub import push_site
    from smnet.files import temporary_folder

    if onnx and web:
        raise UserError("--onnx: a page has its own network; leave --onnx or --web out")
    header, name = read_header(checkpoint), repo.removeprefix("hf://")
    say = partial(typer.echo, err=True)
    with temporary_folder() as folder:
        if web:
            from smnet.web.site import write_site

            site = write_site(checkpoint, folder / "site", say=say)
            typer.echo(push_site(site.folder, space_card(header, name), repo, private=private))
            return
        more = {}
        if onnx:
            from smnet.export.export import export as export_to

            more[ONNX] = export_to(checkpoint, folder / "model.onnx", say=say).path
        card = model_card(header, name, onnx)
        typer.echo(run(checkpoint_file(checkpoint), card, repo, private=private, more=more))
