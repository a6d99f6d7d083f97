"""Identities, smoothing and detector skipping, measured on vtest.avi of Debian's opencv-doc; `docs/video.md` has the figures."""
