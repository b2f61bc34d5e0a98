"""The memories of several processes stay equal to that of one process with all their images."""
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmdet.models.memory import CNPMemory

WORLD = 2


def images(rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a process writes; the second has fewer written locations."""
    generator = torch.Generator().manual_seed(rank)
    written = torch.ones(1, 12, dtype=torch.bool)
    written[:, 6 + 6 * (1 - rank):] = False
    return torch.randn(1, 8, 3, 4, generator=generator), torch.rand(1, 12, 4, generator=generator), written


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
    dist.destroy_process_group()


def test_all_ranks_hold_the_memory_of_one_process(tmp_path):
    mp.spawn(write_on_rank, (str(tmp_path),), nprocs=WORLD)
    single = memory()
    feat, targets, written = (torch.cat(parts) for parts in zip(*map(images, range(WORLD))))
    single([feat], targets, written)
    for rank in range(WORLD):
        units = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        assert torch.allclose(units, single.feat_units.weight, atol=1e-6)
    assert not torch.equal(single.feat_units.weight, memory().feat_units.weight)
