"""What ``trainer.trl_preference_seams`` and ``trainer.ppo`` lean on in TRL: a TRL that moves it fails here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.tiny_model import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

BETA = 0.1
PAIRS = {
    "prompt_ids": [[1, 7, 8], [1, 9]],
    "chosen_ids": [[20, 2, 300, 301, 21, 2], [22, 2]],
    "chosen_mask": [[1, 1, 0, 0, 1, 1], [1, 1]],
    "rejected_ids": [[30, 31, 2, 302, 32, 2], [33, 2, 303, 34, 2]],
    "rejected_mask": [[1, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1]],
}
VERDICTS = {
    "prompt_ids": [[1, 7, 8], [1, 9], [1, 10], [1, 11, 12]],
    "completion_ids": [[20, 2, 300, 301, 21, 2], [22, 2], [23, 2, 304, 24, 2], [25, 2, 305, 26, 2]],
    "mask": [[1, 1, 0, 0, 1, 1], [1, 1], [1, 1, 0, 1, 1], [1, 1, 0, 1, 1]],
    "label": [True, False, False, True],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def adapted(folder: Path) -> Any:
    """A model whose adapter says something already, as after SFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.5)
    return model


def made(
    kind: str, folder: Path, out: Path, *, new_adapter: bool = False, own: dict[str, Any] | None = None, **sets: Any
) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, KTOConfig

    from trainer.trl_preference_seams import (
        MaskedPairCollator,
        MaskedVerdictCollator,
        StoredDPOTrainer,
        StoredKTOTrainer,
        kl_columns,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "beta": BETA,
        "learning_rate": 1e-2,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "max_length": None,
        "remove_unused_columns": False,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
    } | sets
    peft = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM") if new_adapter else None
    model = AutoModelForCausalLM.from_pretrained(folder) if new_adapter else adapted(folder)
    common = {"model": model, "processing_class": tokenizer, "peft_config": peft} | (own or {})
    if kind == "dpo":
        collator, rows = MaskedPairCollator(pad_token_id=tokenizer.pad_token_id), PAIRS
        args = DPOConfig(**settings)
        return StoredDPOTrainer(**common, args=args, data_collator=collator, train_dataset=Dataset.from_dict(rows))
    rows = VERDICTS | kl_columns(VERDICTS["completion_ids"], VERDICTS["mask"], micro_batch=2)
    collator = MaskedVerdictCollator(pad_token_id=tokenizer.pad_token_id)
    args = KTOConfig(**settings, desirable_weight=1.5, undesirable_weight=0.5)
    return StoredKTOTrainer(**common, args=args, data_collator=collator, train_dataset=Dataset.from_dict(rows))


def by_hand(model: Any, prompt: list[int], ids: list[int], mask: list[int]) -> Any:
    """The sum of the log-probabilities of the ids with mask 1, from a plain forward pass without padding."""
    import torch

    tokens = torch.tensor([[*prompt, *ids]])
    logps = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
    said = logps.gather(1, tokens[0, 1:, None])[len(prompt) - 1 :, 0]
    return (said * torch.tensor(mask)).sum()


def sums(model: Any, rows: Any, ids: str, mask: str) -> Any:
    import torch

    columns = zip(rows["prompt_ids"], rows[ids], rows[mask], strict=True)
    return torch.stack([by_hand(model, *row) for row in columns])


def gradients(model: Any) -> dict[str, Any]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return found


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    import torch

    assert first.keys() == second.keys()
    assert any(g.abs().max() > 1e-6 for g in first.values())
    return all(torch.allclose(first[n], second[n], rtol=1e-3, atol=1e-7) for n in first)


def test_dpo_sums_the_policys_tokens_alone_in_loss_gradient_and_reference(tmp_path: Path, folder: Path) -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import use_adapter

    from trainer.trl_preference_seams import reference_of

    trainer = made("dpo", folder, tmp_path)
    assert reference_of(trainer) == "ref"
    for name, weight in trainer.model.named_parameters():
        if "lora_B.default" in name:
            weight.data += 0.1  # the policy has moved away from the reference
    examples = list(trainer.train_dataset)
    batch = trainer.data_collator(examples)
    assert batch["input_ids"][0].tolist() == [1, 7, 8, 20, 2, 300, 301, 21, 2]
    with torch.no_grad(), use_adapter(trainer.model, "ref"):
        reference = [sums(trainer.model, PAIRS, f"{s}_ids", f"{s}_mask") for s in ("chosen", "rejected")]
    told = trainer.compute_ref_log_probs(trainer.model, batch)
    assert all(torch.allclose(t, r, atol=1e-4) for t, r in zip(told, reference, strict=True))

    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    got = gradients(trainer.model)
    chosen, rejected = (sums(trainer.model, PAIRS, f"{s}_ids", f"{s}_mask") for s in ("chosen", "rejected"))
    expected = -F.logsigmoid(BETA * ((chosen - reference[0]) - (rejected - reference[1]))).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    expected.backward()
    assert same(got, gradients(trainer.model))
    # The trap that the collator keeps us out of: TRL's own counts the environment's words.
    plain = DataCollatorForPreference(pad_token_id=0)(examples)
    assert plain["completion_mask"].sum() > batch["completion_mask"].sum()
    assert abs(trainer.compute_loss(trainer.model, plain).item() - loss.item()) > 1e-4


def test_kto_sums_the_policys_tokens_alone_and_its_kl_rows_too(tmp_path: Path, folder: Path) -> None:
    import torch
    from trl.trainer.utils import use_adapter

    from trainer.trl_preference_seams import reference_of

    trainer = made("kto", folder, tmp_path)
    assert reference_of(trainer) == "ref"
    for name, weight in trainer.model.named_parameters():
        if "lora_B.default" in name:
            weight.data += 0.1
    examples = list(trainer.train_dataset)[:2]
    rows = {key: [e[key] for e in examples] for key in examples[0]}
    assert rows["KL_completion_ids"] == rows["completion_ids"][::-1], "each prompt with its neighbour's completion"
    with torch.no_grad():
        mismatched = sums(trainer.model, rows, "KL_completion_ids", "KL_mask")
        with use_adapter(trainer.model, "ref"):
            reference = sums(trainer.model, rows, "completion_ids", "mask")
            mismatched = mismatched - sums(trainer.model, rows, "KL_completion_ids", "KL_mask")
    kl = mismatched.mean().clamp(min=0)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    loss.backward()
    got = gradients(trainer.model)
    ratios = sums(trainer.model, rows, "completion_ids", "mask") - reference
    good = 1.5 * (1 - torch.sigmoid(BETA * (ratios[0] - kl)))
    bad = 0.5 * (1 - torch.sigmoid(BETA * (kl - ratios[1])))
    expected = (good + bad) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    expected.backward()
    assert same(got, gradients(trainer.model))


def test_kl_rows_are_those_that_trl_would_make(tmp_path: Path, folder: Path) -> None:
    from datasets import Dataset
    from trl import KTOTrainer

    from trainer.trl_preference_seams import kl_columns

    trainer = made("kto", folder, tmp_path)
    texts = {"prompt": ["a"] * 5, "completion": list("bcdef"), "label": [True, False, True, False, True]}
    prepared = KTOTrainer._prepare_dataset(
        trainer, Dataset.from_dict(texts), trainer.processing_class, trainer.args, "train"
    )
    ids = list(prepared["completion_ids"])
    assert kl_columns(ids, ids, micro_batch=2)["KL_completion_ids"] == list(prepared["KL_completion_ids"])


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_reference_is_what_training_began_with_and_stays_it(tmp_path: Path, folder: Path, kind: str) -> None:
    import torch

    from trainer.trl_preference_seams import reference_of

    assert reference_of(made(kind, folder, tmp_path, new_adapter=True)) == "base"
    trainer = made(kind, folder, tmp_path)
    assert reference_of(trainer) == "ref"
    began = {n: p.clone() for n, p in trainer.model.named_parameters() if ".default." in n}
    copies = {n: trainer.model.get_parameter(n.replace(".default.", ".ref.")) for n in began}
    assert all(torch.equal(copies[n], began[n]) and not copies[n].requires_grad for n in began)
    trainer.train()
    now = dict(trainer.model.named_parameters())
    assert any(not torch.equal(now[n], began[n]) for n in began), "nothing was trained"
    assert all(torch.equal(copies[n], began[n]) for n in began), "the reference moved"
    trained = {p.data_ptr() for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not trained & {p.data_ptr() for p in copies.values()}
    assert trainer.state.log_history[0]["loss"] == pytest.approx({"dpo": 0.6931, "kto": 0.5}[kind], abs=1e-3)


def test_masks_that_do_not_fit_are_refused(folder: Path) -> None:
    from trainer.trl_preference_seams import MaskedPairCollator

    broken = {key: rows[0] for key, rows in PAIRS.items()} | {"chosen_mask": [1, 1]}
    with pytest.raises(ValueError, match="a completion of 6 tokens has a mask of 2"):
        MaskedPairCollator(pad_token_id=0)([broken])


def test_kto_refuses_what_its_kl_term_cannot_do(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="batch size must be > 1"):
        made("kto", folder, tmp_path, per_device_train_batch_size=1)
    with pytest.raises(ValueError, match="sequential"):
        made("kto", folder, tmp_path, train_sampling_strategy="random")


def test_private_names_are_where_they_were() -> None:
    from trl import DPOTrainer, GRPOTrainer, KTOTrainer

    for cls in (DPOTrainer, KTOTrainer):
        assert callable(cls._send_telemetry)
        assert callable(cls._prepare_dataset)
    for name in (
        "_calculate_rewards",
        "_generate_and_score_completions",
        "_load_optimizer_and_scheduler",
        "_save_optimizer_and_scheduler",
        "_load_from_checkpoint",
    ):
        assert callable(getattr(GRPOTrainer, name)), "PPO's critic hangs on it"


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_checkpoint_appears_with_what_is_ours_or_not_at_all(kind: str, tmp_path: Path, folder: Path) -> None:
    def complete(part: Path, step: int) -> None:
        assert (part / "trainer_state.json").is_file(), "TRL has written all of its own"
        assert (part / "adapter_model.safetensors").is_file()
        assert not (tmp_path / f"checkpoint-{step}").exists()
        (part / "ours").write_text(str(step))
        if step == 3:
            raise KeyboardInterrupt  # as far as the files go, this is what a kill leaves

    own = {"complete": complete, "keep_checkpoints": 1}
    trainer = made(kind, folder, tmp_path, own=own, max_steps=4, save_strategy="steps", save_steps=1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"], "one is kept, and it is whole"
    assert (tmp_path / "checkpoint-2/ours").read_text() == "2"
