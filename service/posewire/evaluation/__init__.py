"""How good a detector and a pose model are on annotated pictures, and what their scores mean."""
