"""The table of annotation forms. A new form is one file in ``forms`` and one entry here."""

from __future__ import annotations

from smnet.data.annotations.form import Form
from smnet.data.annotations.forms import (
    activitynet,
    boris,
    charades,
    createml,
    csv_table,
    diving48,
    elan,
    epic,
    folders,
    kinetics,
    label_studio,
    lists,
    packed,
    thumos,
    twentybn,
    ucf_hmdb,
    via,
)

FORMATS: dict[str, Form] = {
    form.name: form
    for form in (
        packed.FORM,
        twentybn.SOMETHING_V2,
        twentybn.SOMETHING_V1,
        twentybn.JESTER,
        kinetics.FORM,
        ucf_hmdb.UCF101,
        ucf_hmdb.HMDB51,
        diving48.FORM,
        activitynet.FORM,
        thumos.FORM,
        charades.FORM,
        epic.FORM,
        elan.FORM,
        boris.FORM,
        label_studio.FORM,
        via.FORM,
        createml.FORM,
        csv_table.FORM,
        lists.FORM,
        folders.FORM,
    )
}

# The projects whose list files "list" reads.
ALIASES = dict.fromkeys(("tsn", "tsm", "tea", "tdn", "mmaction2", "slowfast", "videomae"), "list")
