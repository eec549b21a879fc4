"""``smnet export``, ``convert`` and ``push``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnet.cli.options import Checkpoint, FirstLabel, Format, Labels, Overwrite, Root, Target
from smnet.errors import UserError


def export(
    checkpoint: Checkpoint,
    to: Annotated[
        str, typer.Option(help="onnx, openvino, or torch (a torch.export program).")
    ] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 (not with torch).")] = "fp32",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Default: beside the checkpoint.")
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

    \b
    Examples:
      smnet export runs/mine
      smnet export runs/mine --precision int8 --calibration clips/
      smnet export runs/ssv2 --precision int8 --calibration labels/ --root videos/
      smnet export runs/mine --to openvino --precision fp16 --calibration clips/
      smnet export runs/mine --to torch --out model.pt2
      smnet export runs/causal --stream
      smnet export runs/mine --features
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
    made = run(
        checkpoint,
        out,
        to=to,
        precision=precision,
        calibration=calibration
        and ClipSource(calibration, format, root, labels, first_label, target=target),
        opset=opset,
        stream=stream,
        features=features,
        overwrite=overwrite,
        say=lambda line: typer.echo(line, err=True),
    )
    output().print(parity_table(made.parity, "PyTorch fp32", f"{to} {precision}"))
    if made.quantised is not None and made.quantised.kept:
        typer.echo(f"kept in fp32: {', '.join(made.quantised.kept)}")
    typer.echo(f"written: {made.path} ({made.bytes / 1e6:.1f} MB)")
    typer.echo(f"report: {made.report}")


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
) -> None:
    """Upload a checkpoint to the Hugging Face hub, with a model card.

    Every verb that takes a checkpoint then also takes hf://OWNER/NAME.

    \b
    Examples:
      smnet push runs/mine me/my-actions
      smnet predict hf://me/my-actions clip.mp4
    """
    from smnet.checkpoints.card import model_card
    from smnet.checkpoints.header import checkpoint_file, read_header
    from smnet.checkpoints.hub import push as run

    card = model_card(read_header(checkpoint), repo.removeprefix("hf://"))
    typer.echo(run(checkpoint_file(checkpoint), card, repo, private=private))
