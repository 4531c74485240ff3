"""The network of `test_module_promises`, and its training in two processes, which `torch.distributed.run` starts."""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.model_handler.networks import Residual, handle, images


def edited_residual() -> nn.Module:
    """What a user trains: a ResNet with a new head, frozen up to its first block; the second one learns."""
    torch.manual_seed(0)
    handler = handle(Residual(), images())
    handler.truncate(at="flatten").add_layer_top([("head", nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 5)))])
    return handler.freeze(up_to="layer1.0").get_module()


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    network = edited_residual().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    wrapped = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, weight_decay=0.1)
    wrapped(images(seed=rank)).square().mean().backward()  # other data on the other process
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    gathered = [torch.empty_like(gradients) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, gradients)
    optimizer.step()
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    if rank == 0:
        print("equal gradients:", torch.equal(*gathered), float(gradients.abs().sum()) > 0)
        print("changed:", *changed)
    del wrapped  # its threads end before what they use does, and no process leaves while the other still speaks to it
    dist.barrier()
    time.sleep(0.2)  # gloo's thread gives back the tensors of the barrier, for which it needs the interpreter
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
