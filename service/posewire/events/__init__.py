"""Events: what the people of a video do, by rules over their tracks."""
