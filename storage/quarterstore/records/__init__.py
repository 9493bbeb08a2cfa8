"""The language of Quarterdeck: one file per noun, imported by every side and importing none of them."""
