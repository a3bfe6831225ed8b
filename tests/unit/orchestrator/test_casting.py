"""Who gets which face."""

from __future__ import annotations

from services.orchestrator.casting import cast
from services.orchestrator.spec import CastRule


def test_one_face_goes_on_everybody() -> None:
    assert cast([], identities=["anna"], people=[0, 1, 2]) == ({0: "anna", 1: "anna", 2: "anna"}, [])


def test_several_faces_go_on_people_in_their_order_and_a_face_too_many_is_said() -> None:
    chosen, notes = cast([], identities=["anna", "berta", "carla"], people=[0, 1])
    assert chosen == {0: "anna", 1: "berta"}
    assert len(notes) == 1
    assert "carla" in notes[0]


def test_a_rule_for_one_goes_before_a_rule_for_all_whichever_comes_first() -> None:
    rules = [CastRule("berta", 1), CastRule("anna", None)]
    assert cast(rules, identities=["anna", "berta"], people=[0, 1]) == ({0: "anna", 1: "berta"}, [])


def test_a_video_without_faces_is_said_once_and_is_no_error() -> None:
    chosen, notes = cast([], identities=["anna", "berta"], people=[])
    assert chosen == {}
    assert notes == ["no face was found in the video: no face was replaced"]
