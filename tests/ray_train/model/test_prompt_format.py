"""What a text begins with: the family's system turn, none, or one of the user's own."""

import pytest

from ray_train.choices import is_system
from ray_train.model.families import family_of
from ray_train.model.prompt_format import PromptFormat, chat_head, format_fingerprint

PAPER = (
    "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位"
    "联合开发的多模态大语言模型。<|im_end|>\n"
)
TURNS = "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"


def test_a_text_of_internvl_begins_with_the_papers_system_turn() -> None:
    assert chat_head("family", family_of("internvl").system) == PAPER + TURNS


def test_a_text_of_qwen_begins_with_the_user_turn() -> None:
    for name in ("qwen2_5_vl", "qwen3_vl", "qwen3_5"):
        assert chat_head("family", family_of(name).system) == TURNS


def test_a_text_of_gemma_has_gemmas_turns_and_a_system_text_opens_the_users() -> None:
    gemma = family_of("gemma3")
    turns = "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
    assert chat_head("family", gemma.system, gemma.chat) == turns.format("")
    assert chat_head("Be strict.", gemma.system, gemma.chat) == turns.format("Be strict.\n\n")
    assert format_fingerprint("family", gemma.system, gemma.chat) != format_fingerprint()


@pytest.mark.parametrize("text", ["<|im_end|>", "<start_of_turn>", "a <end_of_turn> b", "<prm>", " "])
def test_a_system_text_with_a_token_of_any_chat_is_none(text: str) -> None:
    assert not is_system(text)


def test_none_gives_the_head_and_the_fingerprint_from_before_there_was_a_system_turn() -> None:
    own = family_of("internvl").system
    assert chat_head("none", own) == TURNS
    assert format_fingerprint("none", own) == format_fingerprint()
    assert format_fingerprint("family", own) != format_fingerprint()


def test_a_text_of_ones_own_takes_the_familys_place() -> None:
    assert chat_head("Be strict.", "family's") == f"<|im_start|>system\nBe strict.<|im_end|>\n{TURNS}"


def test_a_card_without_a_system_turn_keeps_its_head() -> None:
    card = PromptFormat("<slot>", {}).to_json()
    assert PromptFormat(**card).head == TURNS
