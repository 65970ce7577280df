"""``wpg demo``: its stages (``command``), the files that they leave, and the page that is made of them."""
