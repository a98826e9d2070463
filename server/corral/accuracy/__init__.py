"""The precision guard: what an arithmetic costs of FP32's accuracy, and whether that will do.

Pure: logits in, a verdict out. **Without labels** FP32's own softmax is the judge. It gives the
class that FP32 names the probability p, and the class that the candidate names the probability q;
the picture costs p - q. That is nothing where both name the same class, 0.02 where FP32 wavers
between 0.38 and 0.36, and nearly all where it was sure. The **expected loss** is the mean cost over
the mean p, which is the accuracy that FP32 expects of itself. **With labels** a picture costs the
right answer that is lost, 1, 0 or -1, and the loss is relative to FP32's accuracy.

A sample has its luck. So the guard goes by the loss's **one-sided 95 % upper bound**, by bootstrap:
pictures are drawn again with replacement, and crops of one photograph are drawn together. What
none of few pictures shows, no bootstrap knows. So with labels the bound is never below that of a
count of so many pictures; and where they show no loss, but are too few to exclude it (without
labels: fewer than 40), or FP32 is too unsure of itself to tell, the signal-to-noise ratio must do
as well.

Where labels mean nothing (weights without knowledge, answers that are no scores of classes, classes
that do not exclude one another, fewer than 10 photographs, and pictures that FP32 does not tell
apart: one answer to all of them would lose little), the signal-to-noise ratio counts. So it does
for a model of several outputs: the worst ratio decides. Otherwise it is information, as are the KL
divergence and the cosine similarity. An answer that is no number, FP32's own included, costs all of
its picture.

Of what is no list of scores, only what changes with the picture is signal (accuracy/noise.py); nor
is anything else where the ratio decides on trained scores of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from corral.accuracy.noise import Noise

#: fewer photographs than this have no say on a loss of 1 %
MIN_PICTURES = 10
#: photographs without labels that say by themselves that nothing is lost
ENOUGH_PICTURES = 40
#: FP32's own softmax tells pictures apart where one answer to all of them loses as much, or more
_TELLING = 0.25


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What passes."""

    #: the most of FP32's accuracy that may be lost, by the bound; 0.01 is MLPerf's 99 %
    loss: float = 0.01
    #: dB; the least where labels mean nothing
    snr_db: float = 20.0


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. Losses are shares of FP32's accuracy, 0.01 for 1 %."""

    #: None where answers are no scores of classes, or FP32 has no accuracy to lose
    loss: float | None = None
    #: the one-sided 95 % upper bound; None, too, where there are too few photographs
    loss_most: float | None = None
    #: the part of it that the pictures show: the bound by bootstrap; None where the other is
    loss_shown: float | None = None
    #: what the best answer that looks at no picture would lose; None where there is no ``loss``
    blind_loss: float | None = None
    #: the accuracy of FP32: measured where there are labels, else the one it expects of itself
    accuracy: float | None = None
    #: share of all crops that keep FP32's label; None where answers are no scores of classes
    top1: float | None = None
    #: mean divergence of the candidate's softmax from FP32's, nats
    kl: float | None = None
    #: mean over crops
    cosine: float
    #: dB over all crops
    snr_db: float
    #: its one-sided 95 % lower bound, of several outputs the lowest; None where there are too few
    #: photographs
    snr_db_least: float | None = None
    #: dB, the same of what tells classes apart: without what a softmax does not see and what FP32
    #: answers whatever the picture is; None where answers are no scores of classes, or may be none
    snr_telling_db: float | None = None
    #: photographs
    pictures: int
    #: crops of them, all together
    crops: int = 0
    #: whether labels were given
    labelled: bool = False
    #: of several outputs, the one that all of this is of: the worst
    output: str = ""


class AccuracyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard found, and what became of it."""

    #: what was compared with FP32, or should have been: "openvino int8"
    candidate: str
    #: None where nothing could be compared
    fidelity: Fidelity | None
    #: one phrase for the measure that does not pass, or for what kept it from being compared or
    #: measured; empty when it passed, and when there was nothing to compare on
    faults: list[str]
    #: True when FP32 serves in its place
    fell_back: bool = False

    @property
    def passed(self) -> bool:
        """Whether it was compared, and costs no more than is allowed."""
        return self.fidelity is not None and not self.faults

    @property
    def verdict(self) -> str:
        """ "passed", "fell back"; or it serves all the same: "failed" or "not compared"."""
        if self.passed:
            return "passed"
        if self.fell_back:
            return "fell back"
        return "not compared" if self.fidelity is None else "failed"

    def sentence(self) -> str:
        """One line for a person."""
        if self.fidelity is None:
            if self.fell_back:
                reason = ", ".join(self.faults)
                return f"{self.candidate} cannot serve ({reason}): FP32 serves in its place"
            reason = ", ".join(self.faults) or "the model takes no pictures to compare on"
            return f"{self.candidate} serves without a comparison with FP32: {reason}"
        if self.passed:
            return f"{self.candidate} agrees with FP32: {describe(self.fidelity)}"
        tail = (
            "FP32 serves in its place" if self.fell_back else "it serves because it was asked for"
        )
        return f"{self.candidate} is not close enough to FP32 ({', '.join(self.faults)}): {tail}"


def compare(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    pictures: NDArray[np.intp] | None = None,
    labels: NDArray[np.intp] | None = None,
) -> Fidelity:
    """Measures one arithmetic against FP32.

    Args:
        reference: FP32's answers, [crops,...]; losses are of logits, [crops,classes], or of
            probabilities.
        candidate: the other's for the same crops.
        pictures: which photograph each crop is of, [crops]; each its own if None.
        labels: the right class of each crop, [crops].

    Raises:
        ValueError: shapes differ, or there is nothing.
    """
    from corral.accuracy import losses, noise

    exact, other = noise.without_ruled_out(reference, candidate)
    found = noise.measure(exact, other)
    broken = found.broken
    plain, groups = _fidelity(found, pictures)
    plain = msgspec.structs.replace(plain, labelled=labels is not None)
    if reference.ndim != 2:
        return plain
    # A picture may be of several such classes: which of them comes first says little.
    judged = labels is not None or not losses.are_independent(reference[~broken], MIN_PICTURES)
    if reference.shape[1] >= 2 and judged:
        enough = plain.pictures >= MIN_PICTURES
        measures = losses.measure(reference, candidate, broken, groups, labels, bounded=enough)
        plain = msgspec.structs.replace(plain, **measures)
        apart = plain.blind_loss is None or plain.blind_loss >= _TELLING
        if apart or labels is not None:
            ratio = noise.telling(exact, other).snr_db
            plain = msgspec.structs.replace(plain, snr_telling_db=ratio)
        if apart:
            return plain
    of_changes = noise.measure(exact, other, noise.constant(exact))
    changes, _ = _fidelity(of_changes, pictures)
    return msgspec.structs.replace(plain, snr_db=changes.snr_db, snr_db_least=changes.snr_db_least)


def as_lists(answers: NDArray[Any]) -> NDArray[Any]:
    """Scores of classes in any shape, [n,...], as [n,classes]."""
    return answers.reshape(len(answers), -1)


def compare_outputs(
    reference: Mapping[str, NDArray[Any]],
    candidate: Mapping[str, NDArray[Any]],
    pictures: NDArray[np.intp] | None = None,
    *,
    whole: Collection[str] = (),
) -> Fidelity:
    """The same by output, floats, [crops,...]: what the one with the lowest ratio has, no losses.

    Nothing says that one of several is scores of classes. The signal is what changes with the
    picture: FP32's variance over the crops at each place, all places together. The noise is all
    that differs, a bias included. Where FP32 answers with one constant, and of a single crop,
    nothing tells a change, and the values themselves are the signal.

    Args:
        reference: FP32's answers.
        candidate: the other's.
        pictures: see ``compare``.
        whole: names of those whose values themselves are the signal.

    Raises:
        ValueError: as ``compare`` does, or names differ.
    """
    if not reference or reference.keys() != candidate.keys():
        raise ValueError(f"outputs {sorted(candidate)} against {sorted(reference)}")
    from corral.accuracy import noise

    found = []
    for name, exact in reference.items():
        about = None if name in whole else noise.constant(exact)
        fidelity, _ = _fidelity(noise.measure(exact, candidate[name], about), pictures)
        found.append(msgspec.structs.replace(fidelity, output=name))
    worst = min(found, key=lambda one: one.snr_db)
    bounds = [one.snr_db_least for one in found if one.snr_db_least is not None]
    return msgspec.structs.replace(worst, snr_db_least=min(bounds, default=None))


def _fidelity(found: Noise, pictures: NDArray[np.intp] | None) -> tuple[Fidelity, NDArray[np.intp]]:
    """What noise alone says, and the number of each crop's photograph, without a gap."""
    # Here, for the settings need only the thresholds, and numpy takes 0.1 s to import.
    import numpy as np

    count = len(found.broken)
    groups = np.arange(count) if pictures is None else np.unique(pictures, return_inverse=True)[1]
    number = int(groups.max()) + 1
    plain = Fidelity(cosine=found.cosine, snr_db=found.snr_db, pictures=number, crops=count)
    if number >= MIN_PICTURES and not found.broken.all():
        from corral.accuracy import bound, noise

        most = bound.upper_bound(found.noises, found.signals, groups)
        plain = msgspec.structs.replace(plain, snr_db_least=noise.as_db(1.0, most))
    return plain, groups


def faults(fidelity: Fidelity, thresholds: Thresholds, *, synthetic: bool) -> list[str]:
    """One phrase for what does not pass; none where it will do.

    Args:
        fidelity: what was measured.
        thresholds: what passes.
        synthetic: the weights carry no knowledge, so that labels do not count.
    """
    told = ""
    if fidelity.loss_shown is not None and not synthetic:
        tell = _labels_tell(fidelity, thresholds)
        # What a user's labels show lost is lost, though they could not let anything pass.
        if fidelity.loss_shown > thresholds.loss and (tell or fidelity.labelled):
            kind = "loss" if fidelity.labelled else "expected loss"
            found = f"{fidelity.loss:.2%}, up to {fidelity.loss_most:.2%}"
            return [f"{kind} of accuracy {found} > {thresholds.loss:.2%}"]
        doubt = _doubt(fidelity, thresholds) if tell else ""
        if tell and not doubt:
            return []
        told = f", and {doubt}" if doubt else ""
    ratio, where = fidelity.snr_db, f" of output {fidelity.output}" if fidelity.output else ""
    # Beside a constant that all logits share, any noise looks small.
    if fidelity.snr_telling_db is not None and not synthetic:
        ratio, where = fidelity.snr_telling_db, " of what tells classes apart"
    if ratio < thresholds.snr_db:
        return [f"SNR{where} {ratio:.1f} dB < {thresholds.snr_db:g} dB{told}"]
    return []


def _doubt(fidelity: Fidelity, thresholds: Thresholds) -> str:
    """Why pictures that show no loss do not exclude one; empty where they do.

    FP32 that is hardly surer than one answer to all pictures may know better than it says: labels
    were smoothed, or logits are divided by a temperature. Each flip then costs less than it should.
    """
    if fidelity.loss_most is None:
        return ""
    few = f"{fidelity.pictures} pictures cannot exclude a loss of {thresholds.loss:.2%}"
    if fidelity.labelled:
        return few if fidelity.loss_most > thresholds.loss else ""
    if fidelity.pictures < ENOUGH_PICTURES:
        return few
    return "FP32 is too unsure of itself to tell what is lost" if _is_unsure(fidelity) else ""


def _is_unsure(fidelity: Fidelity) -> bool:
    """Whether FP32 claims little of the accuracy that one answer to all pictures has not."""
    if fidelity.accuracy is None or fidelity.blind_loss is None:
        return False
    blind = fidelity.accuracy * (1 - fidelity.blind_loss)
    return fidelity.accuracy - blind < _TELLING * (1 - blind)


def why_noise(fidelity: Fidelity, thresholds: Thresholds, *, synthetic: bool) -> str:
    """Why the signal-to-noise ratio decides on labelled pictures; empty where labels do, alone."""
    if synthetic:
        return "the weights are synthetic"
    if fidelity.pictures < MIN_PICTURES:
        return f"fewer than {MIN_PICTURES} pictures"
    if fidelity.loss_shown is None:
        return "FP32 is never right"
    seen = fidelity.loss_shown > thresholds.loss
    if not seen and not _labels_tell(fidelity, thresholds):
        return "one answer to all of these pictures would lose no more than is allowed"
    # What is refused says so itself.
    few = _doubt(fidelity, thresholds) and not faults(fidelity, thresholds, synthetic=False)
    return f"{fidelity.pictures} pictures are few for labels alone" if few else ""


def _labels_tell(fidelity: Fidelity, thresholds: Thresholds) -> bool:
    """Whether what looks at no picture could not pass by its labels.

    FP32's word of itself is worth less than labels: of those that it does not tell apart, one
    answer to all pictures need not pass for it to say little.
    """
    if fidelity.blind_loss is None:
        return True
    return fidelity.blind_loss > (thresholds.loss if fidelity.labelled else _TELLING)


def describe(fidelity: Fidelity) -> str:
    """The measures in one phrase."""
    where = f" of output {fidelity.output}, the worst," if fidelity.output else ""
    parts = [f"SNR{where} {fidelity.snr_db:.1f} dB"]
    if fidelity.top1 is not None:
        parts.insert(0, f"top-1 {fidelity.top1:.1%}")
    if fidelity.loss is not None:
        most = "" if fidelity.loss_most is None else f" (at most {fidelity.loss_most:.2%})"
        if fidelity.labelled and fidelity.loss <= 0 and most:
            most = f"{most[:-1]}, no less can {fidelity.pictures} pictures tell)"
        kind = "loss" if fidelity.labelled else "expected loss"
        parts.insert(0, f"{kind} {fidelity.loss:.2%}{most}")
    return ", ".join(parts)
