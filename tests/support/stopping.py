"""Reducers that stop a run at a chosen chunk."""


class Stop(Exception):
    """What ends a run."""


def stopping(monkeypatch, owner, left):
    """Has `owner.look` raise when it was called so many times."""
    look = owner.look

    def counted(self, *arguments, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop
        return look(self, *arguments, **options)

    monkeypatch.setattr(owner, "look", counted)
