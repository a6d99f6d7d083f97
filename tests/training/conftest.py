import importlib.util

if importlib.util.find_spec("torch"):
    import torch

    # Networks this small: threads that wait for each other cost more than they save, and other tests run beside.
    torch.set_num_threads(1)
