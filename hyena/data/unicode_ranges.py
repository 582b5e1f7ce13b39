"""Writes unicode_ranges.inc: which code points are letters, numbers and white space.

    python3 hyena/data/unicode_ranges.py > hyena/data/unicode_ranges.inc

Needs the `regex` package, whose classes are those that GPT-2's tokenizer was defined with. Only for
whoever moves to a newer Unicode; the build uses the written file.
"""

import regex


def ranges(pattern):
    """Maximal [first, last] ranges of the code points that match."""
    matches = regex.compile(pattern).fullmatch
    found = []
    for code in range(0x110000):
        if matches(chr(code)):
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return found


def main():
    print(f"// Written by unicode_ranges.py with regex {regex.__version__}. Do not edit.")
    for name, pattern in (("Letters", r"\p{L}"), ("Numbers", r"\p{N}"), ("Spaces", r"\s")):
        cells = [f"{{0x{first:X}, 0x{last:X}}}," for first, last in ranges(pattern)]
        print(f"constexpr std::array<CodeRange, {len(cells)}> k{name}{{{{")
        line = "   "
        for cell in cells:
            if len(line) + 1 + len(cell) > 100:
                print(line)
                line = "   "
            line += " " + cell
        print(line)
        print("}};")


if __name__ == "__main__":
    main()
