"""Reducers that stop a run at a chosen chunk."""


class Stop(Exception):
    """What ends a run."""


def stopping(monkeypatch, owner, left):
    """Has `owner.update` raise when it was called so many times."""
    update = owner.update

    def counted(self, *arguments, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop
        update(self, *arguments, **options)

    monkeypatch.setattr(owner, "update", counted)
