"""Provenance: where an image comes from, as far as its file and its upstream say so.

What a model made must be told from what a camera took, by law in more and more places. An upstream
may have signed its file (C2PA) or claim a mark in the pixels that only its own tools can see
(SynthID); where it did not sign, Darkroom writes IPTC's word for it into the file. What is kept
here was seen when the image was made; model, deployment and provider are in the job.
"""

from dataclasses import dataclass
from enum import StrEnum


class Label(StrEnum):
    """What Darkroom has written into a file: an IPTC digital source type, or nothing."""

    TRAINED_ALGORITHMIC_MEDIA = "trainedAlgorithmicMedia"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """When an image was made (Unix seconds), and what its file carries.

    `c2pa` says that the file came with a C2PA manifest, not that its signature holds. `synthid`
    says that the upstream claims to have put SynthID into the pixels; nobody else can see it.
    """

    created_at: float
    c2pa: bool = False
    label: Label = Label.NONE
    synthid: bool = False
