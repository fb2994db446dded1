"""splitwise: its addresses are constants of a class, put together when it is imported."""

import pathlib
import tempfile

from splitwise import Splitwise
from splitwise.expense import Expense
from tour import Aside

PACKAGE, BASES, WITHOUT = "splitwise", ("/splitwise/", "/splitwise@default/"), {}
REAL = {name: value for name, value in vars(Splitwise).items() if isinstance(value, str)}


def client(tour, base, key):
    for name, value in REAL.items():
        setattr(Splitwise, name, value.replace("https://secure.splitwise.com/", tour.http + base))
    return Splitwise("", "", api_key=key)


def expense(text, receipt=None):
    one = Expense()
    one.setCost("10")
    one.setDescription(text)
    one.setSplitEqually()
    if receipt:
        one.setReceipt(str(receipt))
    return one


def use(tour, base):
    splitwise = client(tour, base, tour.key)
    tour.read(lambda: splitwise.getCurrentUser().getFirstName(), "Grace ✓")
    tour.write(lambda: splitwise.createExpense(expense("Grüße"))[0].getDescription(), "Grüße")
    tour.pages(
        lambda: [one.getId() for start in (0, 2) for one in splitwise.getExpenses(offset=start, limit=2)],
        [1, 2, 3],
    )
    with tempfile.TemporaryDirectory() as folder:
        receipt = pathlib.Path(folder, "a.txt")
        receipt.write_text("Grüße\n", encoding="utf-8")
        tour.upload(lambda: splitwise.createExpense(expense("with", receipt))[0].getDescription(), "receipt")


def refuse(tour, base):
    splitwise = client(tour, base, tour.narrow)
    tour.refused(
        lambda: splitwise.createExpense(expense("no")),
        "SplitwiseNotAllowedException",
        aside=Aside(
            "`http_body`: its own text is the same for every 403", lambda error: error.http_body[0].decode()
        ),
    )
