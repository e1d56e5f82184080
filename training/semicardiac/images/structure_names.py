"""What names and codes of structures of the heart mean, for the engine and the module in Slicer alike."""

from __future__ import annotations


def plain(name: str) -> str:
    """A name without what people write differently: `LV-Cavity`, `lv cavity` and `LV_cavity` are one."""
    return "".join(character for character in name.casefold() if character.isalnum())


_NAMES = {
    "lv": """lv, lvc, lv cavity, lv endo, lv blood pool, lvbp, lv lumen, endo, endocardium, lv endocardium,
        left ventricle endocardium, left ventricle, left ventricle cavity, left ventricular cavity,
        left ventricle blood pool, left ventricular blood pool,
        left ventricle blood cavity, left heart ventricle, heart ventricle left""",
    "myo": """myo, lvm, myocard, myocardium, lv myo, lv myocardium, lv wall, lv muscle, left ventricle myocardium,
        left ventricular myocardium, left ventricle wall, myocardium of the left ventricle, heart myocardium""",
    "rv": """rv, rvc, rv cavity, rv endo, rv blood pool, rvbp, right ventricle, right ventricle cavity,
        right ventricular cavity, right ventricle blood pool, right ventricular blood pool,
        right ventricle blood cavity, right heart ventricle, heart ventricle right""",
    "la": """la, la cavity, left atrium, left atrium cavity, left atrial cavity, left atrium blood cavity,
        left heart atrium, heart atrium left""",
    "ra": """ra, ra cavity, right atrium, right atrium cavity, right atrial cavity, right atrium blood cavity,
        right heart atrium, heart atrium right""",
    "ao": "ao, aa, aorta, ascending aorta, aorta ascending",
    "pa": "pa, pulmonary artery, pulmonary trunk, pulmonary artery trunk, main pulmonary artery",
}
_MEANING = {plain(name): meaning for meaning, names in _NAMES.items() for name in names.split(",")}
_MEANING_OF_CODE = {
    "87878005": "lv", "74281007": "myo", "53085002": "rv", "82471001": "la", "73829009": "ra", "54247002": "ao",
    "81040000": "pa",
}  # fmt: skip


def meaning_of(name: str) -> str | None:
    """`lv`, `myo`, `rv`, as the roles of label sets, `la`, `ra`, `ao` or `pa`; None if the name is not understood."""
    return _MEANING.get(plain(name))


def meaning_of_code(code: str) -> str | None:
    """The same of a SNOMED CT code."""
    return _MEANING_OF_CODE.get(code)
