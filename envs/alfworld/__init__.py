"""ALFWorld: text household games, played by a native engine that matches TextWorld step by step."""

__all__: list[str] = []
