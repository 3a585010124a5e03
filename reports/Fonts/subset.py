#!/usr/bin/python3
"""Makes TestbedSans-*.ttf from Debian's fonts-dejavu-extra (needs the package fonttools).

A figure embeds its font whole, in SVG and in PDF alike: DejaVu Sans Condensed with all its scripts weighs
680 KB, with what a figure can say, some 40 KB. The family is renamed so that no installed font of the same name can
take its place and change the figures from machine to machine.
"""
from fontTools import subset
from fontTools.ttLib import TTFont

FAMILY = "Testbed Sans"
# Latin with accents, Greek, dashes and quotes, sub- and superscripts, arrows, comparison and set signs, marks.
UNICODES = [
    *range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x391, 0x3CA),
    *range(0x2010, 0x2023), 0x2026, 0x2032, *range(0x2070, 0x2090), *range(0x2190, 0x2195), 0x2206, 0x2208, 0x2211, 0x2212,
    0x221E, 0x2248, 0x2260, 0x2264, 0x2265, 0x25A0, 0x25B2, 0x25BC, 0x25CF, 0x25CB, 0x2713,
]

# Bold is for headings: names of links, policies and numbers.
HEADINGS = [*range(0x20, 0x7F), *range(0xA0, 0x100), *range(0x2010, 0x2023), 0x2026, 0x2212]

for weight, source, unicodes in (
    ("Regular", "DejaVuSansCondensed.ttf", UNICODES), ("Bold", "DejaVuSansCondensed-Bold.ttf", HEADINGS),
):
    font = TTFont("/usr/share/fonts/truetype/dejavu/" + source, recalcTimestamp=False)
    options = subset.Options(hinting=False, layout_features=["kern"], name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14], notdef_outline=True)
    worker = subset.Subsetter(options)
    worker.populate(unicodes=unicodes)
    worker.subset(font)
    for record in font["name"].names:
        record.string = {
            1: FAMILY, 2: weight, 3: f"{FAMILY} {weight} (subset of DejaVu Sans Condensed 2.37)",
            4: f"{FAMILY} {weight}", 6: f"TestbedSans-{weight}",
        }.get(record.nameID, record.toUnicode())
    font["OS/2"].usWidthClass = 5
    font.save(f"TestbedSans-{weight}.ttf")
