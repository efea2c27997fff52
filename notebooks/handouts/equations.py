"""Equations as MathML, which browsers draw by themselves: no script and no font to load, and it prints well.

latex2mathml does the work; this mends what browsers do not follow in its output.
"""

import html
import re
import unicodedata
from xml.etree import ElementTree

from latex2mathml.converter import convert

TAG = re.compile(r"\\tag\{([^}]*)\}")
FUNCTIONS = ("log", "exp", "max", "min", "softmax")


def inline(latex):
    """An equation inside a line."""
    return _mathml(latex, "inline")


def display(latex):
    """An equation on a line of its own, its number (\\tag) at the margin."""
    number = TAG.search(latex)
    margin = f'<span class="number">({html.escape(number[1])})</span>' if number else ""
    return f'<div class="equation">{_mathml(TAG.sub("", latex), "block")}{margin}</div>'


def _mathml(latex, display):
    known = re.sub(r"\\(begin|end)\{(?:aligned|align|split)\}", r"\\\1{align*}", latex)
    markup = convert(known.strip(), display=display)
    left = re.search(r"\\[A-Za-z]+", markup)
    if left:
        raise SystemExit(f"the equation {latex.strip()} has {left[0]}, which latex2mathml does not know: write it anew")
    root = ElementTree.fromstring(markup.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))
    for element in list(root.iter()):
        _mend(element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _mend(element):
    variant = element.attrib.get("mathvariant", "normal")
    if variant != "normal":  # browsers know no other: the further alphabets are characters of their own
        del element.attrib["mathvariant"]
        element.text = "".join(_in_alphabet(variant.upper(), character) for character in element.text)
    if "columnalign" in element.attrib:
        element.set("style", f"text-align: {element.attrib.pop('columnalign')}; padding-inline: 0")
    if element.tag == "mover" and element[1].get("stretchy") == "false":
        element.set("accent", "true")
    if element.tag == "mo" and element.text == "/":
        element.attrib |= {"lspace": "0.1em", "rspace": "0.1em"}
    if element.tag == "mrow":
        _space_functions(element)


def _space_functions(row):
    """A thin space on both sides of log and the like, which MathML has only around operators."""
    children = list(row)
    row[:] = []
    for child, following in zip(children, [*children[1:], None], strict=True):
        function = child.tag == "mi" and child.text in FUNCTIONS
        if function and len(row) and row[-1].tag not in ("mo", "mspace"):
            row.append(ElementTree.Element("mspace", width="0.167em"))
        row.append(child)
        if function and following is not None and following.text != "(":
            row.append(ElementTree.Element("mspace", width="0.167em"))


def _in_alphabet(variant, character):
    """A letter, Greek or Latin, or a digit in a mathematical alphabet: ("BOLD", "z") -> "𝐳"."""
    what = re.sub("^(LATIN|GREEK) | LETTER", "", unicodedata.name(character, ""))  # such as CAPITAL G, DIGIT ONE
    for alphabet in (variant, variant.replace("-", " ")):  # DOUBLE-STRUCK, but BOLD ITALIC
        for prefix in ("MATHEMATICAL ", ""):  # some script letters were in Unicode before the rest
            try:
                return unicodedata.lookup(f"{prefix}{alphabet} {what}")
            except KeyError:
                continue
    return character
