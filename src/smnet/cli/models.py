"""Verbs about models rather than clips: list them and their recipes, compare them, bring them in,
give them away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from smnet.cli.options import (
    AsJson,
    Data,
    Device,
    FirstLabel,
    Format,
    Labels,
    Root,
    absolute,
    absolute_paths,
)
from smnet.errors import UserError


def models(
    pattern: Annotated[str, typer.Argument(help="A shell pattern.")] = "*",
) -> None:
    """List the models.

    \b
    Example:
      smnet models 'smnet_*'
    """
    from smnet.models import list_models

    names = list_models(pattern)
    if not names:
        raise UserError(f"no model matches {pattern!r}; smnet models lists all of them")
    for name in names:
        typer.echo(name)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one, all keys.")] = None,
) -> None:
    """List the recipes, or show one with all its keys.

    \b
    Examples:
      smnet recipes
      smnet recipes ssv2-8f
    """
    from smnet.recipes.recipe import dump_recipe, list_recipes, read_recipe

    if name is not None:
        typer.echo(dump_recipe(read_recipe(name)), nl=False)
        return
    without = "what smnet train does without a recipe: your own clips, from ImageNet weights"
    for known, about in {"default": without, **list_recipes()}.items():
        typer.echo(f"{known:16} {about}")


def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="The budget; default: motion, or with --data what smnet train has.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Names with commas, options after colons: tsm_resnet18,smnet_resnet18:groups=2."
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help=(
                "family, res2net, modality, parts, start, groups, stages, place, fusion,"
                " attention, choices, or a file."
            )
        ),
    ] = None,
    trunk: Annotated[str | None, typer.Option(help="Put the study on this trunk.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model.")] = 3,
    data: Data = None,
    format: Format = None,
    out: Annotated[str, typer.Option(help="The comparison's folder.")] = "runs/compare",
) -> None:
    """Train several models under the same budget and put them in one table.

    What is done in the folder already is kept, so the same command goes on after an interruption.
    With the folder of another comparison as weights, each run is fine-tuned from its own there.

    \b
    Examples:
      smnet compare --models tsn_resnet18,tsm_resnet18,smnet_resnet18
      smnet compare --models tdn_resnet18,smnet_resnet18:modality=rgb+rgbdiff --data clips/
      smnet compare --study parts --seeds 5 --out runs/parts
      smnet compare --study family --trunk resnet50 --data clips/ epochs=15 weights=imagenet
      smnet compare motion --study parts --data clips/ weights=runs/parts --out runs/fine-tuned
    """
    from smnet.experiments.compare import MOTION, MOTION_BUDGET, check_study
    from smnet.experiments.compare import compare as run
    from smnet.experiments.study import read_models, read_study
    from smnet.recipes.recipe import read_recipe

    if (models is None) == (study is None):
        raise UserError("give either --models or --study")
    words = list(words or [])
    source = words.pop(0) if words and "=" not in words[0] else None
    for word in words:
        if word.partition("=")[0].strip() in ("model", "seed"):
            raise UserError(f"{word}: a comparison has --models or --study, and seeds 0, 1, ...")
    says_data = any(word.partition("=")[0].strip() == "data" for word in words)
    drawn = data is None and not says_data and source in (None, "motion")
    if drawn:
        source, words = "motion", [*MOTION_BUDGET, *words]
    given = {"data": data, "format": format}
    recipe = read_recipe(source, words, {k: v for k, v in given.items() if v is not None})
    recipe = recipe.model_copy(update=absolute_paths(recipe))
    variants = read_study(study) if study is not None else read_models(str(models))
    check_study(recipe, variants, trunk)
    if drawn:
        from smnet.experiments.demo import draw

        folder = draw(Path(out) / "motion", **MOTION).root
        recipe = recipe.model_copy(update={"data": absolute(folder)})
    run(recipe, variants, seeds, Path(out), trunk)
    typer.echo((Path(out) / "table.md").read_text(encoding="utf-8"))


def convert(
    file: Annotated[
        str, typer.Argument(help="A published checkpoint: .pth, .pth.tar, .safetensors.")
    ],
    out: Annotated[str, typer.Option(metavar="OUT.safetensors", help="Where ours is written.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="tsm, tsn, tdn, tam, action, tea, mmaction2-tsm, mmaction2-tsn, mmaction2-tanet,"
            " torchvision or timm; default: by the names of the tensors.",
        ),
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="Segments it was trained on, where the file does not tell.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="A file with the class names.")
    ] = None,
    class_order: Annotated[
        str | None,
        typer.Option(help="How the classifier numbers them: file (as NAMES does), or sorted."),
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="The sampling rule, if not the one of its published results.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="What its frames were normalised by, of values in [0, 1], if not ImageNet's"
            " (0.5,0.5,0.5; with --std). timm's config.json beside the file is read.",
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="See --mean.")] = None,
) -> None:
    """Make a published checkpoint one of ours.

    Nothing is written unless every tensor has its place. No code in the file is run.

    \b
    Examples:
      smnet convert TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth \\
        --classes something-something-v2-labels.json --out tsm-ssv2.safetensors
      smnet convert best.pth.tar --from tdn --segments 8 --out tdn.safetensors
    """
    from smnet.checkpoints.convert import convert as run
    from smnet.checkpoints.file import save_checkpoint

    if Path(out).resolve() == Path(file).resolve():
        raise UserError(f"--out {out} is the file to convert; give another name")
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


def export(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint, or a run's folder.")],
    to: Annotated[
        str, typer.Option(help="onnx; openvino; or torch, a torch.export program.")
    ] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8 (not torch).")] = "fp32",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Default: beside the checkpoint.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="A data set: int8 needs it, and scores are compared."),
    ] = None,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators.")] = None,
) -> None:
    """Export a checkpoint to a file for deployment.

    Frames go in as uint8, scores come out; class names and sampling are in the file, so that
    `smnet predict model.onnx clip.mp4` works, also where PyTorch is not installed. How its scores
    and its speed compare with the checkpoint's is printed, and written beside it as FILE.json.

    fp16 halves the file. It is faster on a GPU, and with openvino on CPUs that compute in 16 bits;
    with onnx a CPU computes in fp32 all the same, and converting takes time. int8 is the fast one
    on CPUs, fastest with onnx; it keeps sensitive layers in fp32. Both are refused if they cost
    more than 0.5 points of top-1.

    \b
    Examples:
      smnet export runs/mine
      smnet export runs/mine --precision int8 --calibration clips/
      smnet export runs/ssv2 --precision int8 --calibration labels/ --root videos/
      smnet export runs/mine --to openvino --precision fp16 --calibration clips/
      smnet export runs/mine --to torch --out model.pt2
    """
    from rich.console import Console

    from smnet.data.annotations.source import ClipSource
    from smnet.export.export import export as run
    from smnet.export.parity import parity_table

    given = {"--format": format, "--root": root, "--labels": labels, "--first-label": first_label}
    if calibration is None and any(given.values()):
        names = ", ".join(name for name, value in given.items() if value)
        raise UserError(f"{names}: these describe the data set of --calibration DATA; add it")
    made = run(
        checkpoint,
        out,
        to=to,
        precision=precision,
        calibration=calibration and ClipSource(calibration, format, root, labels, first_label),
        opset=opset,
        say=lambda line: typer.echo(line, err=True),
    )
    table = parity_table(made.parity, "PyTorch fp32", f"{to} {precision}")
    Console(highlight=False, emoji=False).print(table)
    if made.quantised is not None and made.quantised.kept:
        typer.echo(f"kept in fp32: {', '.join(made.quantised.kept)}")
    typer.echo(f"written: {made.path} ({made.bytes / 1e6:.1f} MB)")
    typer.echo(f"report: {made.report}")


def push(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint, or a run's folder.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository.")],
    private: Annotated[bool, typer.Option("--private", help="Of a new repository.")] = False,
) -> None:
    """Put a checkpoint on the Hugging Face hub, with a model card.

    Wherever a checkpoint is asked for, hf://OWNER/NAME then stands for it.

    \b
    Examples:
      smnet push runs/mine me/my-actions
      smnet predict hf://me/my-actions clip.mp4
    """
    from smnet.checkpoints.card import model_card
    from smnet.checkpoints.file import checkpoint_file, read_checkpoint
    from smnet.checkpoints.hub import push as run

    card = model_card(read_checkpoint(checkpoint), repo.removeprefix("hf://"))
    typer.echo(run(checkpoint_file(checkpoint), card, repo, private=private))


def profile(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL[:KEY=VALUE]...", help="See smnet models."),
    ],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the crops.")] = 224,
    segments: Annotated[int, typer.Option(min=1, max=256, help="Segments of a clip.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Clips a timed batch.")] = 1,
    options: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of every model; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed turns of each model.")] = 5,
    device: Device = "auto",
    as_json: AsJson = False,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Accuracy over cost, of --results."),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(metavar="table.json", help="What smnet compare wrote; may be repeated."),
    ] = None,
) -> None:
    """What models cost: parameters, multiply-adds, memory of training, time; by stage and module.

    Times are measured in turns and given in units of TSN on the trunk of the first model.

    \b
    Examples:
      smnet profile smnet_resnet50 tsm_resnet50 tdn_resnet50
      smnet profile smnet_resnet50 smnet_resnet50:place=after_conv1 --size 112
      smnet profile smnet_resnet18 tsm_resnet18 --plot cost.png --results runs/compare/table.json
    """
    from smnet.experiments.profile import profile as run
    from smnet.experiments.profile_report import check_picture, draw, print_comparison, read_results
    from smnet.experiments.study import read_models
    from smnet.recipes.recipe import read_recipe

    if (plot is None) != (not results):
        raise UserError("--plot draws what --results says; give both, or neither")
    if plot is not None:
        check_picture(plot)
    named = {row.model for word in models for row in read_models(word)}
    rows = read_results(results, named) if results else []
    table = read_recipe(None, [f"options.{word}" for word in options or []]).options
    found = run(
        models,
        segments=segments,
        size=size,
        batch=batch,
        options=table,
        device=device,
        rounds=rounds,
    )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print_comparison(found)
    if plot is not None:
        draw(plot, found, rows)
        typer.echo(f"written: {plot}", err=True)


VERBS = (models, recipes, compare, convert, export, profile, push)
