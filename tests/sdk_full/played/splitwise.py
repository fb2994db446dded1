"""Splitwise: form bodies, receipts in a form, pages by offset."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "secure.splitwise.com/api/v3.0"
USER = {
    "id": 1,
    "first_name": "Grace ✓",
    "last_name": "H",
    "email": "grace@example.com",
    "registration_status": "confirmed",
    "picture": {"small": None, "medium": "https://s3.amazonaws.com/splitwise/m.png", "large": None},
    "default_currency": "EUR",
    "locale": "de",
    "date_format": "MM/DD/YYYY",
    "default_group_id": -1,
}
EMPTY = (
    *("group_id", "repeats", "repeat_interval", "email_reminder", "email_reminder_in_advance", "next_repeat"),
    *(
        "details",
        "comments_count",
        "payment",
        "creation_method",
        "transaction_method",
        "transaction_confirmed",
    ),
    *("currency_code", "date", "created_at", "updated_at", "deleted_at", "updated_by", "deleted_by"),
)


def expense(number: int, description: str) -> dict[str, object]:
    return {
        **dict.fromkeys(EMPTY),
        "id": number,
        "description": description,
        "cost": "10.0",
        "created_by": USER,
        "receipt": {"original": None, "large": None},
        "category": {"id": 18, "name": "General"},
        "repayments": [],
        "users": [],
    }


def expenses(call: Arrival) -> Reply:
    start = int(call.query.get("offset", "0"))
    return Reply({"expenses": [expense(n, f"e{n}") for n in (1, 2, 3)][start : start + 2]})


def created(call: Arrival) -> Reply:
    if b"multipart" in (call.request.value("content-type") or b""):
        assert "Grüße\n".encode() in call.request.body
        return Reply({"expenses": [expense(9, "receipt")], "errors": {}})
    return Reply({"expenses": [expense(9, call.form()["description"])], "errors": {}})


SERVICE = Played(
    token="real-splitwise-0123456789",
    routes={
        f"GET {API}/get_current_user": Reply({"user": USER}),
        f"GET {API}/get_expenses": expenses,
        f"POST {API}/create_expense": created,
    },
)
