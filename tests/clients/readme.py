"""Prints the block of README that holds some words, so that clients are driven by the very lines that people copy.

python3 readme.py LANGUAGE WORDS
"""

import pathlib
import re
import sys

language, words = sys.argv[1:]
text = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
found = [block for block in blocks if words in block]
if len(found) != 1:
    sys.exit(f"README has {len(found)} blocks of {language} with {words!r}")
print(found[0], end="")
