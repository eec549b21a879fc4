"""Adaptation of a network to a data set: a probe, fine-tuning from it, the better of the two."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.adapt.checkpoints import channels_below, probe_checkpoint, with_two_stages
from smnet.adapt.copies import look_in, unite_copies
from smnet.adapt.discriminants import of_samples, to_answers, with_discriminants
from smnet.adapt.features import FeatureCache, clip_features
from smnet.adapt.probe import Probe
from smnet.adapt.selection import (
    HEADS,
    Choice,
    Samples,
    choose,
    out_of_fold,
    scores_of_labels,
)
from smnet.adapt.suspects import suspects
from smnet.adapt.tuning import fine_tune, say, verdict
from smnet.checkpoints.file import read_checkpoint, save_checkpoint
from smnet.console import clip_progress
from smnet.data.annotations.mirror import mirror
from smnet.data.annotations.read import Clip, ClipSet
from smnet.data.annotations.splits import draw_folds
from smnet.errors import UserError
from smnet.evaluation.calibration import Calibration, at_temperature, calibrate
from smnet.evaluation.results import Evaluation, truth_of
from smnet.files import alone_in, atomic_path, in_utf8, write_text
from smnet.inference.backends import plan_views
from smnet.inference.torch_backend import TorchBackend
from smnet.models import VideoModel
from smnet.recipes.recipe import Recipe, dump_recipe
from smnet.recipes.views import parse_views
from smnet.training.calibration import calibrated
from smnet.training.copies import keep_copies_together
from smnet.training.setup import (
    build_model,
    check_folder_is_not_data,
    class_counts,
    read_training_clips,
    validation_clips,
)
from smnet.training.start_weights import start_from

FOLDS = 5
"""Folds of the cross-validation of a data set without folds."""
FEATURES = 0.7
"""Share of the time that features may take."""
HEADER = "# The recipe of the adaptation in this folder.\n"


@dataclass(frozen=True)
class Adapted:
    """What :func:`adapt` found.

    Attributes:
        folder: of the run; ``best.safetensors`` is the result.
        crossed: the probe on clips that it had not seen, by cross-validation.
        probe: the probe on the validation clips; None where there are none.
        tuned: the fine-tuned network on the validation clips; None if it was not tried.
        kept: ``"probe"`` or ``"fine-tuned"``.
        verdict: one line that says which and why.
        whole: whether the kept probe was trained on the validation clips, too.
        calibration: of the result, on the clips of ``crossed``, or of ``tuned`` if that is kept.
        suspects: clips of ``crossed`` whose label may be wrong, with the class that they may
            rather be and its score.
        counts: training clips of each class.
    """

    folder: Path
    crossed: Evaluation
    probe: Evaluation | None
    tuned: Evaluation | None
    kept: str
    verdict: str
    whole: bool
    calibration: Calibration
    suspects: Sequence[tuple[int, int, float]]
    counts: Mapping[str, int]

    @property
    def result(self) -> Evaluation:
        """The kept network on clips that it has not seen."""
        if self.kept == "fine-tuned" and self.tuned is not None:
            return self.tuned
        return self.crossed if self.probe is None or self.whole else self.probe

    def checked(self, result: Evaluation) -> Evaluation:
        """A result with the decision and the temperature of the checkpoint."""
        decision, several = self.calibration.decision, result.truth is not None
        scores = at_temperature(result.scores, decision.temperature, several)
        return replace(result, scores=scores.astype(np.float32), decision=decision)


def adapt(recipe: Recipe, folder: Path, minutes: float = 10.0) -> Adapted | None:
    """Adapt the network ``recipe.weights`` to a data set.

    The same call continues an interrupted run.

    Args:
        recipe: model, data, views, and the start ``weights``.
        folder: of the run, created if it does not exist.
        minutes: time for everything. Clips whose features do not fit are left out. Fine-tuning
            takes what the probe leaves; it is left out where two epochs do not fit. 0 trains the
            probe alone, on all clips.

    Returns:
        What was found; None if fine-tuning was interrupted.

    Raises:
        UserError: data or start weights that cannot be used.
    """
    deadline = time.monotonic() + 60 * minutes
    clips = read_training_clips(recipe)
    check_folder_is_not_data(folder, clips)
    if len(clips.classes) < 2:
        raise UserError(f"{recipe.data}: one class, {clips.classes[0]}; a classifier needs two")
    with alone_in(folder):
        _start(folder, recipe)
        recipe, clips, line = keep_copies_together(recipe, clips, look_in(recipe, folder))
        if line:
            say(line)
        torch.manual_seed(recipe.seed)
        model = build_model(with_two_stages(recipe), clips)
        say(f"data: {clips.why}")
        say(start_from(model, recipe.weights))
        limit = time.monotonic() + 60 * minutes * FEATURES if minutes else None
        samples, val = read_samples(recipe, clips, model, folder, limit)
        crossed, found = _cross_validated(recipe, clips, samples, val)
        say(
            f"probe: {crossed.headline[0]} {crossed.headline[1]}, cross-validated on"
            f" {len(crossed.labels)} clips"
        )
        choice, probe = _fitted(samples, recipe)
        held = None
        if val is not None:
            held = _evaluation(recipe, clips, val, val.scores(probe, choice.head))
            name, share = held.headline
            say(f"probe: {name} {share} on {len(held.labels)} validation clips")
        checkpoint = probe_checkpoint(model, samples, probe, choice.head, recipe, held or crossed)
        save_checkpoint(folder / "probe.safetensors", checkpoint)
        tuned = None
        if held is not None:
            outcome = fine_tune(recipe, folder, checkpoint, len(samples), deadline)
            if isinstance(outcome, Evaluation):
                tuned = outcome
            elif outcome == "stopped":
                return None
            else:
                say(outcome)
        kept, line = verdict(held, tuned)
        best, judged = checkpoint, crossed
        whole = kept == "probe" and val is not None and clips.drawn
        if whole and val is not None:
            samples = joined(samples, val)
            say(f"probe: trained again on all {len(samples)} clips, validation clips among them")
            choice, probe = _fitted(samples, recipe)
            best = probe_checkpoint(model, samples, probe, choice.head, recipe, crossed, whole)
        if kept == "fine-tuned" and tuned is not None:
            best, judged = read_checkpoint(folder / "finetune" / "last.safetensors"), tuned
        elif crossed.distances is not None and np.isfinite(crossed.distances).all():
            own = of_samples(samples, choice.head)
            best = with_discriminants(best, samples, choice.head, own)
        several, count = judged.truth is not None, best.spec.decision.discriminants
        far = judged.distances if count else None
        calibration = calibrate(judged.scores, judged.labelled, several, far, count)
        say(str(calibration))
        save_checkpoint(folder / "best.safetensors", calibrated(best, calibration))
        say(line)
        _write_suspects(folder / "suspects.csv", crossed, found)
        if found:
            say(f"labels to check: {len(found)}, in {folder / 'suspects.csv'}")
    counts = class_counts(clips)
    return Adapted(folder, crossed, held, tuned, kept, line, whole, calibration, found, counts)


def _fitted(samples: Samples, recipe: Recipe) -> tuple[Choice, Probe]:
    """The probe of these clips, and a line on it."""
    choice = choose(samples, seed=recipe.split_seed)
    say(f"probe: on {HEADS[choice.head].words}, strength {choice.strength:.2g}, cross-validated")
    return choice, samples.fit(choice)


def _write_suspects(
    path: Path, result: Evaluation, found: Sequence[tuple[int, int, float]]
) -> None:
    """A table of the clips whose label may be wrong, the most suspect first."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "proposed", "score"])
        for i, k, score in found:
            names = result.classes[result.labels[i]], result.classes[k]
            writer.writerow([in_utf8(result.clips[i].name), *names, round(score, 6)])


def _start(folder: Path, recipe: Recipe) -> None:
    """Write the recipe, or refuse a folder that holds something else."""
    own, text = folder / "recipe.yaml", HEADER + dump_recipe(recipe)
    ours = own.is_file() and own.read_text("utf-8", "replace") == text
    if not ours and (own.exists() or (folder / "best.safetensors").exists()):
        raise UserError(
            f"{folder}: holds another run; choose another --out, or repeat its own command to"
            " continue it"
        )
    write_text(own, text)


def read_samples(
    recipe: Recipe, clips: ClipSet, model: VideoModel, folder: Path, limit: float | None
) -> tuple[Samples, Samples | None]:
    """The features of the training and of the validation clips, as far as time allows."""
    backend = TorchBackend(model, recipe.device)
    plan = replace(plan_views(backend, *parse_views(recipe.views)), decoder=recipe.decoder)
    cache = FeatureCache(folder / "features.npz")
    source = _digest(model)
    order = mirror(clips.classes).order if recipe.flip == "auto" else None
    sides = {"train": clips.splits["train"], "val": validation_clips(clips)}
    total = sum(map(len, sides.values()))
    made: dict[str, Samples] = {}
    began, late = time.monotonic(), 0
    with clip_progress("features", "unreadable") as update:
        done = 0
        for name, side in sides.items():

            def advance(count: int) -> None:
                nonlocal done
                done += count
                update(done, total, 0)

            if not side:
                continue
            features, problems = clip_features(
                backend,
                side,
                plan,
                cache,
                source,
                mirrored=order is not None,
                batch=recipe.batch,
                workers=recipe.workers,
                until=limit and began + (limit - began) * _share(sides, name),
                progress=advance,
            )
            if problems and recipe.on_error == "raise":
                raise UserError(
                    f"{next(iter(problems.values()))} (on_error=skip adapts without such clips)"
                )
            targets = _targets(side, len(clips.classes), plan.views, order)
            reached = np.array(np.isfinite(features).all((1, 2)))
            reached[list(problems)] = True  # an unreadable clip is reached, and counts as wrong
            late += int((~reached).sum())
            made[name] = Samples(
                features, targets, side, plan.views, clips.several, channels_below(model)
            )[reached]
    if late:
        say(
            f"features: no time for {late} of {total} clips, they are left out; the same command"
            " with more --minutes continues"
        )
    if recipe.copies is None:
        unite_copies(recipe, made, folder)
    train = made["train"]
    readable = np.asarray(np.isfinite(train.features).all((1, 2)))
    return (train if readable.all() else train[readable]), made.get("val")


def _share(sides: Mapping[str, Sequence[Clip]], name: str) -> float:
    """Share of the clips that are done after a side."""
    names = list(sides)
    done = sum(len(sides[side]) for side in names[: names.index(name) + 1])
    return done / sum(map(len, sides.values()))


def _targets(
    clips: Sequence[Clip], classes: int, views: int, order: tuple[int, ...] | None
) -> NDArray[np.float64]:
    """(N, V, K), or (N, 2V, K) with the labels after mirroring last."""
    one = np.zeros((len(clips), classes))
    for row, clip in zip(one, clips, strict=True):
        row[list(clip.labels)] = 1
    plain = np.repeat(one[:, None], views, 1)
    if order is None:
        return plain
    mirrored = np.zeros_like(plain)
    mirrored[:, :, list(order)] = plain
    return np.concatenate([plain, mirrored], 1)


def _digest(model: VideoModel) -> str:
    """Identifies the network below the classifier, and what it expects."""
    seen = model.spec.mean, model.spec.std, channels_below(model)
    digest = hashlib.sha256(repr(seen).encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("fc."):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _cross_validated(
    recipe: Recipe, clips: ClipSet, samples: Samples, val: Samples | None
) -> tuple[Evaluation, list[tuple[int, int, float]]]:
    """The probe on clips that it has not seen: by the folds of the data set, or by random ones.

    Validation clips that were drawn take part; those that the data set names do not, unless it also
    has folds.

    Returns:
        The result, and the suspects as in :class:`Adapted`.
    """
    both = samples if val is None else joined(samples, val)
    if all(clip.fold is not None for clip in both.clips):
        names = {name: k for k, name in enumerate(dict.fromkeys(c.fold for c in both.clips))}
        used, folds = both, np.array([names[clip.fold] for clip in both.clips])
        say(f"cross-validation: the {len(names)} folds of the data set")
    else:
        used, which = (both, "clips") if clips.drawn else (samples, "training clips")
        folds = np.array(draw_folds(used.clips, FOLDS, recipe.split_seed))
        say(f"cross-validation: {len(set(folds.tolist()))} random folds of the {which}")
    with clip_progress("cross-validation", "") as update:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            update(done, len(used), 0)

        measure = None if clips.several or _causal(recipe) else _distances
        scores, _, far = out_of_fold(
            used, folds, seed=recipe.split_seed, progress=advance, measure=measure
        )
    result = replace(_evaluation(recipe, clips, used, scores), distances=far.astype(np.float32))
    if clips.several:
        return result, []
    checks = scores_of_labels(used, folds)
    found = suspects(checks, result.labels)
    return result, [(i, k, float(checks[i, k])) for i, k in found]


def _distances(train: Samples, test: Samples, probe: Probe, head: str) -> NDArray[np.float64]:
    return to_answers(test, of_samples(train, head), probe, head)


def _causal(recipe: Recipe) -> bool:
    """Whether the network answers frame by frame, where no distance is known."""
    return recipe.options.get("causal") is True


def joined(one: Samples, other: Samples) -> Samples:
    readable = other[np.asarray(np.isfinite(other.features).all((1, 2)))]
    return replace(
        one,
        features=np.concatenate([one.features, readable.features]),
        targets=np.concatenate([one.targets, readable.targets]),
        clips=[*one.clips, *readable.clips],
    )


def _evaluation(
    recipe: Recipe, clips: ClipSet, samples: Samples, scores: NDArray[np.float64]
) -> Evaluation:
    return Evaluation(
        scores.astype(np.float32),
        np.array([clip.label for clip in samples.clips]),
        clips.classes,
        tuple(clip.path for clip in samples.clips),
        recipe.views,
        sampling=recipe.sampling,
        truth=truth_of(samples.clips, len(clips.classes)) if clips.several else None,
        clips=tuple(samples.clips),
    )
