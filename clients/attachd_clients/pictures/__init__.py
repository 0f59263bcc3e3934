"""Pictures of a terminal: its cells as text, as SVG, or as PNG.

`taking` asks for the output that makes a screen, `cells` says what is seen on it, and `text`,
`svg` and `png` draw that. All but `taking` are pure.
"""
