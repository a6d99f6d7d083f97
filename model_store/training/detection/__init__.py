"""The person detector's training from annotations: which points answer for whom, and the loss that follows."""
