"""``wpg demo``: its stages (``command``), the files that they write, and the page made from these files."""
