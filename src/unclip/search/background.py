"""Texts that a query is compared with, so that its score is a probability and not a bare cosine."""

from __future__ import annotations

# Common things of all kinds: what a picture may show instead of what was asked for.
_WORDS = """
person, man, woman, baby, child, crowd of people, hand, face, eye, family, wedding, smile, hair, dog, cat,
horse, cow, sheep, pig, chicken, bird, owl, duck, fish, shark, whale, frog, snake, turtle, elephant, lion,
tiger, bear, monkey, rabbit, mouse, fox, deer, butterfly, bee, spider, insect, tree, forest, flower, rose,
leaf, grass, mushroom, cactus, garden, field, farm, mountain, beach, sea, lake, river, waterfall, desert,
island, sky, cloud, sunset, night, star, moon, sun, rain, snow, fire, lightning, rainbow, volcano, apple,
banana, orange, strawberry, grapes, lemon, tomato, carrot, corn, bread, cheese, egg, meat, pizza, burger,
cake, ice cream, chocolate, coffee, tea, beer, wine, bottle, cup, plate, fork, knife, house, castle,
church, tower, bridge, city, street, shop, school, hospital, factory, room, kitchen, bathroom, bed, chair,
table, lamp, door, window, stairs, clock, mirror, bathtub, car, bus, truck, train, bicycle, motorcycle,
airplane, helicopter, rocket, ship, boat, traffic light, book, newspaper, letter, pencil, scissors, key,
lock, bag, suitcase, umbrella, hat, shirt, shoe, dress, trousers, glasses, ring, crown, gift, balloon,
candle, toy, doll, robot, phone, computer, keyboard, camera, television, screenshot, document, map,
diagram, chart, table of text, guitar, piano, drum, violin, football, tennis, swimming, running, dancing,
skiing, chess, dice, hammer, saw, screwdriver, gear, battery, magnet, microscope, syringe, pill, skeleton,
heart, flag, coin, money, road sign, arrow, circle, triangle, square, logo, letters, number, pattern,
texture, drawing, painting, sculpture, black and white photo, blurry photo, close-up, portrait, landscape
"""
BACKGROUND = tuple(" ".join(word.split()) for word in _WORDS.split(","))
# A background text that is so many standard deviations more similar to the query than the others are says the
# same as the query (perhaps in another language) and does not compete with it.
SYNONYM = 3.0
