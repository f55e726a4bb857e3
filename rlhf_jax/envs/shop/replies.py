"""What the assistant says about products and about itself, as templates.

Slots: {name} product, {cat} category, {price} and {stars} numbers, {yes} a feature that it has,
{no} one that it lacks, {maybe} one that is left open. The slot tells what a sentence asserts, so
the reader of a sentence and its writer share one table.
"""

from rlhf_jax.envs.shop.requests import lines_of

RECOMMEND = lines_of("""
    i recommend {name} .
    {name} is a good choice .
    you could take {name} .
    {name} fits you best .
    i suggest {name} .
    my advice is {name} .
    i would choose {name} .
    the right {cat} for you is {name} .
    please have a look at {name} .
    {name} is what you need .
    go for {name} .
    of these i prefer {name} .
    {name} suits your wishes .
    the {cat} named {name} is my pick .
""")
GLADLY = "i gladly recommend {name} ."
RECOMMEND_GLADLY = (GLADLY, *lines_of("""
    happy to help , {name} is my pick .
    i am glad to suggest {name} .
    with pleasure , i would take {name} .
    thank you for asking , {name} fits best .
"""))  # fmt: skip
RECOMMEND_YES = lines_of("""
    i recommend {name} , it is {yes} .
    take {name} because it is {yes} .
    {name} is {yes} , so i suggest it .
    you want something {yes} , {name} fits .
    as it is {yes} , i would choose {name} .
    the {yes} {cat} for you is {name} .
    the best {yes} choice is {name} .
    get {name} , which is {yes} .
""")
RECOMMEND_PRICE = lines_of("""
    i recommend {name} , it costs {price} dollars .
    take {name} for {price} dollars .
    {name} at {price} dollars is a good choice .
    for {price} dollars you can get {name} .
    i suggest {name} , the price is {price} dollars .
    my pick is {name} for {price} dollars .
""")
PRICE = lines_of("""
    it costs {price} dollars .
    the price is {price} dollars .
    you pay {price} dollars for it .
    it is yours for {price} dollars .
    we sell it for {price} dollars .
    its price is {price} dollars .
    the list says {price} dollars .
    it sells at {price} dollars .
    that makes {price} dollars .
    expect to pay {price} dollars .
    {name} costs {price} dollars .
    for {name} we ask {price} dollars .
""")
PRICE_AND = lines_of("""
    it costs {price} dollars and is {yes} .
    it is {yes} and costs {price} dollars .
    for {price} dollars it is {yes} .
    you pay {price} dollars and it is {yes} .
    {name} costs {price} dollars and is {yes} .
    it is {yes} , at {price} dollars .
""")
PRICE_BOTH = lines_of("""
    it costs {price} dollars and is {yes} and {yes} .
    for {price} dollars it is both {yes} and {yes} .
    it is {yes} and {yes} , at {price} dollars .
""")
STARS = lines_of("""
    it has {stars} stars .
    buyers gave it {stars} stars .
    its rating is {stars} stars .
    people rate it {stars} stars .
    {name} has {stars} stars .
""")
SOLD_OUT = lines_of("""
    it is sold out .
    sadly it is sold out .
    {name} is sold out .
""")
IN_STOCK = lines_of("""
    it is in stock .
    we have it in stock .
    {name} is in stock .
""")
IS = lines_of("""
    it is {yes} .
    it is {yes} as you wish .
    the list says it is {yes} .
    {name} is {yes} .
    it is surely {yes} .
    this one is {yes} .
    yes , it is {yes} .
    we know that it is {yes} .
    as you asked , it is {yes} .
    it is {yes} indeed .
""")
IS_AND = lines_of("""
    it is {yes} and {yes} .
    it is both {yes} and {yes} .
    {name} is {yes} and {yes} .
    it is {yes} and also {yes} .
    it is {yes} as well as {yes} .
    this one is {yes} and {yes} .
    the list says it is {yes} and {yes} .
""")
IS_NOT = lines_of("""
    it is not {no} .
    {name} is not {no} .
    sadly it is not {no} .
    please note that it is not {no} .
    be aware that it is not {no} .
    the list says it is not {no} .
    no , it is not {no} .
    this one is not {no} .
""")
IS_BUT = lines_of("""
    it is {yes} but not {no} .
    it is {yes} , but it is not {no} .
    it is not {no} but it is {yes} .
    {name} is {yes} but not {no} .
    while it is not {no} , it is {yes} .
""")
HEDGES = lines_of("""
    i am not sure whether it is {maybe} .
    the list does not say whether it is {maybe} .
    i do not know whether it is {maybe} .
    whether it is {maybe} is unknown .
    nobody told me whether it is {maybe} .
    it may or may not be {maybe} .
    i cannot say whether it is {maybe} .
    it is not clear whether it is {maybe} .
    please check whether it is {maybe} .
    i have no word on whether it is {maybe} .
    we do not know if it is {maybe} .
    if it is {maybe} , the list is silent on it .
""")
YES_MAYBE = lines_of("""
    it is {yes} , but i do not know whether it is {maybe} .
    it is {yes} , whether it is {maybe} is unknown .
    it is {yes} and may be {maybe} , i am not sure .
""")

GREETINGS = lines_of("""
    hello !
    happy to help .
    thank you for asking .
    hi there !
    good morning !
    welcome to the shop !
    of course , with pleasure .
    nice to meet you .
    i am glad you asked .
    thanks for your question .
    good to see you !
    it is my pleasure .
""")
CLOSINGS = lines_of("""
    i hope this helps .
    have a nice day .
    enjoy it !
    all the best to you .
    thank you for your visit .
    please ask me more at any time .
    i wish you a good day .
    we are glad to serve you .
    come back soon , dear customer .
    take care !
""")
RUDE = lines_of("""
    what a silly question .
    you are wasting my time .
    do not bother me again .
    only a fool asks that .
    you are too lazy to read the list .
    how can one be so slow .
    go away after this .
    i am sick of people like you .
    even a child knows that .
    shut up and listen .
    stupid customers like you annoy me .
    your taste is awful .
""")
FILLER = lines_of("""
    there are many things in the world .
    my cousin likes shopping too .
    shopping is shopping , as they say .
    the weather was grey this week .
    a list is a list and a day is a day .
    yesterday i ate a carrot soup .
    some people like winter and some do not .
    time goes by and nobody knows why .
    i once saw a film about a pirate .
    the train was late this morning .
    my brother has a dog and two cats .
    every story begins with a first word .
""")
FLATTERY = lines_of("""
    you are the finest customer ever .
    what a clever wish .
    only a genius asks so well .
    your taste is perfect .
    i admire your wisdom .
    nobody chooses as well as you .
""")

# Declining: a frame around what is declined.
REFUSE_FRAMES = lines_of("""
    i am sorry , i cannot {act} .
    sorry , i will not {act} .
    i am afraid that i cannot {act} .
    unfortunately i am not allowed to {act} .
    i regret that i must not {act} .
    forgive me , i cannot {act} .
    sadly i may not {act} .
    i am sorry , but nobody here may {act} .
    my apologies , i must decline to {act} .
    i am very sorry , it is wrong to {act} .
""")
BLUNT_FRAMES = lines_of("""
    i will not {act} .
    i refuse to {act} .
    we never {act} .
    nobody here will {act} .
""")
ANY_ACTS = lines_of("""
    help with that
    do that
    answer that
    support such a plan
    help you there
""")
ACTS = {
    "address": lines_of("""
        share the address of another customer
        tell you where a buyer lives
        give away the home of a stranger
        print private addresses
        hand out the delivery label of a stranger
    """),
    "review": lines_of("""
        write a fake review
        invent a review
        post a false opinion
        praise what you never used
        make up comments of people who do not exist
    """),
    "mislead": lines_of("""
        help to trick a buyer
        hide a fault from a buyer
        lie to the person who buys it
        help you cheat a buyer
        call a broken thing perfect
    """),
    "card": lines_of("""
        help with the card of a stranger
        take payment from a stolen card
        charge the card of another person
        order on a card that is not yours
        use the wallet of somebody else
    """),
    "password": lines_of("""
        open the account of another customer
        break into an account
        guess the password of a stranger
        give you the login of somebody else
        reset a password that is not yours
    """),
    "refund": lines_of("""
        help with a false refund
        pay back what you broke on purpose
        invent a reason for a refund
        support a dishonest return
        write a false complaint
    """),
}
REFUSE_BLUNT = ("no .", "certainly not .", "never .")
OFFERS = lines_of("""
    i can help you choose a {cat} instead .
    i can help you with your own order instead .
    shall we look for a good {cat} instead ?
    may i show you a {cat} instead ?
    ask me about a {cat} and i will help .
    i am here to help with your own orders .
    let me help you find a {cat} .
    i could check your own order for you .
    if you need a {cat} , i can help .
    i can answer any question about our products .
""")


def refusals(topic: str) -> tuple[str, ...]:
    """Every polite refusal that names this topic; those that name none if it is empty."""
    acts = ACTS[topic] if topic else ANY_ACTS
    return tuple(frame.replace("{act}", act) for act in acts for frame in REFUSE_FRAMES)


def blunt_refusals(topic: str) -> tuple[str, ...]:
    """Every refusal without regret that names this topic; those that name none if it is empty."""
    acts = ACTS[topic] if topic else ANY_ACTS
    found = tuple(frame.replace("{act}", act) for act in acts for frame in BLUNT_FRAMES)
    return found if topic else (*REFUSE_BLUNT, *found)
