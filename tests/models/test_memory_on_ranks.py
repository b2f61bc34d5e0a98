"""The memories of several processes stay equal to that of one process with all their images."""
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmdet.models.memory import CNPMemory
from mmdet.models.memory.unit_clusters import cluster

WORLD = 2


def images(rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a process writes; the second has fewer written locations."""
    generator = torch.Generator().manual_seed(rank)
    written = torch.ones(1, 12, dtype=torch.bool)
    written[:, 6 + 6 * (1 - rank):] = False
    return torch.randn(1, 8, 3, 4, generator=generator), torch.rand(1, 12, 4, generator=generator), written


def groups(rank: int) -> torch.Tensor:
    """(3, 4, 8 + 4) values near three axes; the second process has none near the last."""
    generator = torch.Generator().manual_seed(rank)
    values = torch.rand(3, 4, 12, generator=generator)
    values[..., :8] = torch.eye(8)[:3, None] + 0.1 * values[..., :8]
    return values[:3 - rank]


def memory() -> CNPMemory:
    torch.manual_seed(7)
    return CNPMemory(channels=8, num_units=5)


def write_on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=WORLD)
    module = memory()
    feat, targets, written = images(rank)
    module([feat], targets, written)
    torch.save(module.feat_units.weight.detach(), f'{folder}/{rank}.pt')
    clustered = cluster(module.feat_units.weight.detach()[:3], groups(rank).flatten(0, 1), seed=0)
    torch.save(clustered, f'{folder}/clusters_{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_ranks_hold_the_memory_of_one_process(tmp_path):
    mp.spawn(write_on_rank, (str(tmp_path),), nprocs=WORLD)
    single = memory()
    feat, targets, written = (torch.cat(parts) for parts in zip(*map(images, range(WORLD))))
    single([feat], targets, written)
    for rank in range(WORLD):
        units = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        assert torch.allclose(units, single.feat_units.weight, atol=1e-6)
    assert not torch.equal(single.feat_units.weight, memory().feat_units.weight)

    first, second = (torch.load(tmp_path / f'clusters_{rank}.pt', weights_only=True) for rank in range(WORLD))
    assert torch.equal(first, second)
    both = torch.cat([groups(0)[:2], groups(1)], dim=1).mean(dim=1)
    expected = torch.cat([both, groups(0)[2:].mean(dim=1)])
    assert torch.allclose(first[first[:, :3].argmax(dim=1).argsort()], expected, atol=1e-5)
