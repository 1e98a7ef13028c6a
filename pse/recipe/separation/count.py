"""How many speakers there are, told from the embeddings: a part of stage enhance, with confusion tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pse.clustering.calibration import Calibration, calibrate
from pse.clustering.options import Clustering
from pse.config import plain
from pse.errors import PseError
from pse.recipe.options import Context
from pse.recipe.separation.layout import (
    Condition,
    System,
    cache_files,
    conditions,
    directory,
    estimates,
    gives_embeddings,
    is_clustered,
    method_of,
    model_of,
    systems,
    trained,
    valid_speech,
    voices,
)
from pse.recipe.stage import Task

if TYPE_CHECKING:
    from torch import Tensor

# (true number, estimator -> (its number, its curve)) of a mixture.
Told = tuple[int, dict[str, tuple[int, list[float]]]]
# Parts of the validation mixtures, each of which is told by a calibration on the others.
FOLDS = 5


def ways(ctx: Context, system: System) -> dict[str, Clustering]:
    """The ways of clustering that estimate the number, of this system's embeddings or of those that others refine."""
    asking = {c.clustering for c in conditions(ctx) if estimates(ctx, c) and counted_by(ctx, c.system) == system}
    return {n: how for n, how in ctx.config.separate.clustering.items() if n in asking}


def tasks(ctx: Context) -> list[Task]:
    """One task an embedding system, where estimators are named or a way of clustering estimates the number."""
    found = [s for s in systems(ctx) if gives_embeddings(ctx, s) and s.seed is None]
    return [_task(ctx, s) for s in found if ctx.config.count.estimators or ways(ctx, s)]


def counted_by(ctx: Context, system: System) -> System:
    """The system whose counts stand for another's: the first seed of the embeddings that it has or refines."""
    if gives_embeddings(ctx, system):
        return System(system.method)
    return System(method_of(ctx, system).start)


def found_in(ctx: Context, system: System) -> Path:
    """Where the counts of a system lie."""
    return ctx.exp / "count" / f"{system.name}.json"


def decides(ctx: Context, condition: Condition) -> bool:
    """Whether a condition waits for the calibration on validation speech."""
    how = ctx.config.separate.clustering.get(condition.clustering or "")
    return estimates(ctx, condition) and _is_open(how)


def _is_open(how: Clustering) -> bool:
    """Whether nothing in the config says how this way of clustering tells the number."""
    of = how.communities
    return of.method in JOINED and of.min_apart is None and of.calibration is None and not of.num_nulls


def calibrated(ctx: Context, condition: Condition) -> Clustering:
    """How a condition clusters, with that calibration."""
    from pse.io.jsonl import read_json

    how = ctx.config.separate.clustering[condition.clustering]
    if not decides(ctx, condition):
        return how
    told = read_json(found_in(ctx, counted_by(ctx, condition.system)))[condition.clustering]
    return _with(how, told["calibration"])


def _with(how: Clustering, calibration: dict[str, Any] | None) -> Clustering:
    if calibration is None:
        return how
    return replace(how, communities=replace(how.communities, calibration=Calibration(**calibration)))


# Methods that join clusters until they are apart; the others tell the number themselves.
JOINED = ("modularity", "leiden", "kmeans")


def _task(ctx: Context, system: System) -> Task:
    target = found_in(ctx, system)

    def run(config: Any) -> None:
        from pse.io.jsonl import write_json

        made = _found(ctx, config, system)
        write_json(target, made)
        told = ", ".join(f"{name} {100 * m['accuracy']:.0f} %" for name, m in made.items())
        print(f"{system.name}: number of speakers is right for {told}", flush=True)

    inputs = (*trained(ctx, system), *cache_files(ctx, valid_speech(ctx), "open"))
    mixing = ("mixture.seed", "mixture.spread_db", "mixture.max_duration_s")
    clustering = (f"separate.clustering.{name}" for name in ways(ctx, system))
    reads = ("count", *clustering, *mixing, "sample_rate", model_of(ctx, system)[1])
    return Task(
        f"count.{system.name}", "enhance", reads, inputs, (target,), ctx.exp, run, made_by="pretrain",
        own_process=True, brief=True,
    )  # fmt: skip


def _found(ctx: Context, config: Any, system: System) -> dict[str, Any]:
    """Estimator -> its calibration, its accuracy, and how often it told each number: `told`, and by spread `tried`.

    `by_its_own_rule`: the accuracy without calibration. `purer`: part of the embeddings that is ideal -> accuracy of a
    calibration on such embeddings, and their purity `nmi`.
    """
    main = config.mixture.spread_db if config.count.spread_db is None else config.count.spread_db
    valid = list(_counted(ctx, config, system, valid_speech(ctx), main))
    tested = list(_counted(ctx, config, system, "open", main))
    others = {db: list(_counted(ctx, config, system, "open", db)) for db in config.count.tried_db}
    purer = {part: _purer(ctx, config, system, main, part) for part in config.count.ideal_parts}
    made, known = {}, ways(ctx, system)
    for name in [*config.count.estimators, *known]:
        reading = _calibration(valid, name) if name not in known or _is_open(known[name]) else None
        made[name] = {"calibration": None if reading is None else plain(reading), **_confusion(tested, name, reading)}
        made[name]["accuracy_on_validation"] = _foreseen(valid, name, calibrated=reading is not None)
        made[name]["by_its_own_rule"] = _confusion(tested, name, None)["accuracy"]
        made[name]["tried"] = {f"{db:g}": _confusion(t, name, reading) for db, t in others.items()}
        made[name]["purer"] = {
            f"{part:g}": {**_confusion(t, name, _calibration(v, name) if reading else None), "nmi": nmi}
            for part, (v, t, nmi) in purer.items()
        }
    return made


def _purer(
    ctx: Context, config: Any, system: System, spread_db: float, ideal_part: float
) -> tuple[list[Told], list[Told], float]:
    """What is told of validation and open mixtures whose embeddings are ideal to a part, and their purity.

    That is the mean NMI of speakers and of as many clusters of open mixtures of two speakers or more, by k-means.
    """
    purity: list[float] = []
    valid = list(_counted(ctx, config, system, valid_speech(ctx), spread_db, ideal_part))
    tested = list(_counted(ctx, config, system, "open", spread_db, ideal_part, purity))
    return valid, tested, sum(purity) / len(purity)


def _counted(
    ctx: Context,
    config: Any,
    system: System,
    part: str,
    spread_db: float,
    ideal_part: float = 0.0,
    purity: list[float] | None = None,
) -> Iterator[Told]:
    """What is told of mixtures of 1 to max_count speakers of a set; purity, where given, gets that of each."""
    import torch

    from pse.clustering.communities import find
    from pse.clustering.count import count_sources
    from pse.data.speech_mixture import SpeakerSampler
    from pse.inference.clustering import Nodes
    from pse.losses.activity import THRESHOLD_DB, bins, dominant_source, points
    from pse.models.base import measure_level
    from pse.recipe.fitting import load

    net, spoken = load(model_of(ctx, system), directory(ctx, system)), voices(ctx, part)
    longest = round(config.mixture.max_duration_s * config.sample_rate)
    for count in range(1, config.count.max_count + 1):
        name = f"count-{count}"
        sampler = SpeakerSampler(
            spoken, longest, config.mixture.seed, name, (count,), spread_db=spread_db, whole=True
        )  # fmt: skip
        for number in range(config.count.num_mixtures):
            sources = torch.from_numpy(sampler.render(number))
            mix = sources.sum(0)[None]
            level = measure_level(mix, net.normalize)
            spectrum = net.transform.stft(mix / level)
            out = net(mix)
            magnitude = Nodes.of(net, out).magnitudes(spectrum)
            vectors, weights = points(out.embeddings), _weights(magnitude, THRESHOLD_DB)
            if ideal_part or purity is not None:
                loud = Nodes.of(net, out).magnitudes(net.transform.stft(sources / level))
                whose = bins(dominant_source(loud[None]))
                vectors = _purified(vectors, whose, ideal_part)
                if purity is not None and count > 1:
                    purity.append(_purity(vectors, weights, whose[0]))
            found = {}
            for estimator in config.count.estimators:
                told = count_sources(estimator, vectors, weights, config.count.max_count)
                found[estimator] = (int(told.count), told.curve[0].tolist())
            for way, how in ways(ctx, system).items():
                # What is calibrated here is read off the same nodes as in tests.
                heard = _weights(magnitude, how.threshold_db)[0]
                seen = find(vectors[0], heard, how.communities, name=f"{name}-{number}")
                found[way] = (seen.count, seen.curve)
            yield count, found


def _purified(vectors: Tensor, whose: Tensor, ideal_part: float) -> Tensor:
    """Unit vectors [B, N, D] of which a part is the axis of the speaker [B, N, S] who is louder, the rest as it was.

    Raises PseError where there are more speakers than axes.
    """
    from torch.nn import functional

    if (speakers := whose.shape[2]) > (size := vectors.shape[2]):
        fix = "count fewer speakers, or leave ideal_parts out"
        raise PseError(f"{speakers} speakers have no axis each in {size} dimensions", "count.ideal_parts", fix)
    axes = functional.pad(whose, (0, vectors.shape[2] - whose.shape[2]))
    return functional.normalize((1 - ideal_part) * vectors + ideal_part * axes, dim=-1)


def _purity(vectors: Tensor, weights: Tensor, whose: Tensor) -> float:
    """NMI of the speakers [N, S] and as many clusters of vectors [1, N, D], where weights [1, N] are not 0."""
    from pse.clustering.kmeans import kmeans
    from pse.clustering.modularity import normalised_mutual_information

    labels, active = kmeans(vectors, whose.shape[1], weights).labels[0], weights[0] > 0
    return normalised_mutual_information(labels[active], whose.argmax(1)[active])


def _weights(magnitude: Tensor, threshold_db: float) -> Tensor:
    """1 for the nodes of a mixture, [B, N] of its magnitude [B, Kn, Fn], that are loud enough, 0 for the others."""
    from pse.losses.activity import activity, bins

    return bins(activity(magnitude[:, None], magnitude, rule="mixture", threshold_db=threshold_db)).float()


def _calibration(mixtures: Sequence[Told], name: str) -> Calibration:
    return calibrate([told[name][1] for _, told in mixtures], [count for count, _ in mixtures])


def _foreseen(valid: list[Told], name: str, *, calibrated: bool) -> float:
    """How often the number is right: of mixtures that a calibration was not made on, where there is one."""
    if not calibrated:
        return _confusion(valid, name, None)["accuracy"]
    right = 0.0
    for fold in range(FOLDS):
        reading = _calibration([m for i, m in enumerate(valid) if i % FOLDS != fold], name)
        held = valid[fold::FOLDS]
        right += len(held) * _confusion(held, name, reading)["accuracy"] if held else 0.0
    return right / len(valid)


def _confusion(mixtures: list[Told], name: str, reading: Calibration | None) -> dict[str, Any]:
    """Accuracy, and the confusion table: true number -> how often each number was told."""
    told = [found[name][0] if reading is None else reading.count(found[name][1]) for _, found in mixtures]
    counts = [c for c, _ in mixtures]
    pairs = Counter(zip(counts, told, strict=True))
    table = {str(c): [pairs[c, k] for k in range(1, max(*counts, *told) + 1)] for c in sorted(set(counts))}
    return {"accuracy": sum(t == c for t, c in zip(told, counts, strict=True)) / len(told), "told": table}


def best_estimator(found: dict[str, Any], known: dict[str, Clustering] | None = None) -> dict[str, Any] | None:
    """What is right most often on validation, of what a task of this module wrote, as a package says it.

    An estimator with its calibration, or one of the known ways of clustering, by name, with its own.
    """
    if not found:
        return None
    name = max(found, key=lambda e: found[e]["accuracy_on_validation"])
    calibration, how = found[name]["calibration"], (known or {}).get(name)
    if how is None:
        return {"estimator": name, "calibration": calibration}
    how = _with(how, calibration)
    told = {key: getattr(how, key) for key in ("soft", "ratio", "threshold_db")}
    return {"estimator": "communities", "options": plain(how.communities), **told}


def packed_with(ctx: Context, system: System) -> dict[str, Any] | None:
    """How the package of a system says that speakers are counted; None where nothing was counted for it."""
    from pse.io.jsonl import read_json

    if not is_clustered(ctx, system):
        return None
    source = counted_by(ctx, system)
    found, known = found_in(ctx, source), ways(ctx, source)
    # What an earlier config counted is not this one's.
    asked = (*ctx.config.count.estimators, *known)
    return best_estimator({n: f for n, f in read_json(found).items() if n in asked}, known) if found.is_file() else None
