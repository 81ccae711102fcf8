"""The demo's prompts: many, distinct, and none of the held-out ones trained on."""

from __future__ import annotations

from detect.demo.prompts import held_out_prompts, training_prompts


def test_held_out_prompts_are_not_trained_on() -> None:
    trained, held_out = training_prompts(400), held_out_prompts(250)
    assert len(set(trained)) == 400
    assert len(set(held_out)) == 250
    assert not set(trained) & set(held_out)


def test_prompts_are_the_same_each_time() -> None:
    assert training_prompts(50) == training_prompts(400)[:50]
    assert held_out_prompts(50) == held_out_prompts(250)[:50]
